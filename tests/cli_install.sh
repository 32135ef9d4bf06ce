# SPDX-License-Identifier: Apache-2.0
# What `make install PREFIX=...` leaves in a folder that was not named before: a program finds it by pkg-config and runs.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
command -v pkg-config >/dev/null || exit 77
grep -q fsanitize "$(dirname "$TOKAMAK")/CMakeCache.txt" && exit 77 # such a library wants such a program
cmake --install "$(dirname "$TOKAMAK")" --prefix "$dir/here" >/dev/null
mv "$dir/here" "$dir/there" # it may even be moved
flags=$(PKG_CONFIG_PATH=$(dirname "$(find "$dir/there" -name tokamak.pc)") pkg-config --cflags --libs tokamak)
cc examples/embed.c $flags -o "$dir/embed"
lib=$(dirname "$(find "$dir/there" -name libtokamak.so)")
LD_LIBRARY_PATH=$lib "$dir/embed" tests/data/chat "Hello?" >/dev/null
LD_LIBRARY_PATH=$lib "$dir/there/bin/tokamak" --version >/dev/null
echo "install: fine"
