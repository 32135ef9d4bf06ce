#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that Tokamak builds and tests with; says so first. Needs root or sudo only when one
# of them is missing. `deps.sh dev` adds the tools of lint, fuzz and bench.
set -euo pipefail
packages=(gcc g++ cmake ninja-build pkg-config python3 python3-pip ccache libjansson-dev libonig-dev libutf8proc-dev libedit-dev
  libcurl4-openssl-dev libssl-dev libxxhash-dev libhwloc-dev libcmocka-dev libzip-dev zlib1g-dev)
[ "${1:-}" = dev ] && packages+=(clang clang-format clang-tidy cppcheck libclang-rt-14-dev libopenblas-dev)
missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0
echo "Installing Debian packages: ${missing[*]}" >&2
run=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "error: packages are missing: ${missing[*]}
  neither root nor sudo is available to install them
  ask an administrator to run: apt-get install ${missing[*]}" >&2; exit 1; }
  run=(sudo)
fi
"${run[@]}" apt-get update -qq
"${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
