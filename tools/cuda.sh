#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fetches the CUDA compiler (nvcc 13.0, 100 MB of wheels from PyPI, checked against tools/cuda-toolchain.txt) into a
# cache folder and prints that folder; nothing is installed into the system and no GPU is needed. The next configure
# finds it there. A CUDA toolkit of the system serves as well: then this script is not needed.
set -euo pipefail
cd "$(dirname "$0")/.."
list=tools/cuda-toolchain.txt
cache=${TOKAMAK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tokamak-build}
root=$cache/cuda-$(sed -n 's/^nvidia-cuda-nvcc==\([^ ]*\).*/\1/p' "$list")
if [ ! -x "$root/bin/nvcc" ]; then
  echo "Fetching the CUDA compiler into $root" >&2
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/fetch.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --dest "$work/wheels" --requirement "$list" >&2 || {
    echo "error: the CUDA compiler could not be fetched
  the packages of $list did not come from PyPI
  without it the CPU library is built; or name a toolkit: cmake -DTOKAMAK_NVCC=/usr/local/cuda/bin/nvcc" >&2; exit 1; }
  for wheel in "$work"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$work/all"; done
  rm -rf "$work/all/nvidia/cu13/lib/"libnvvm.so* "$work/all/nvidia/cu13/bin/nvlink" # not needed to compile
  chmod -R u+rwX,+X "$work/all"
  chmod +x "$work"/all/nvidia/cu13/bin/* "$work"/all/nvidia/cu13/nvvm/bin/*
  mv -T "$work/all/nvidia/cu13" "$root" 2>/dev/null || [ -x "$root/bin/nvcc" ] # another run may have been first
fi
echo "$root"
