#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes BUILD/bundle: a folder that runs on another x86-64 Linux machine, without packages and wherever it lies. The
# command, the tests and the measuring programs, stripped; the libraries that they need and a system may lack, but for the
# C library's own and the GPU driver's; the tests' data. A machine without a GPU makes it; without nvcc it has no GPU code.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
out=$build/bundle
rm -rf "$out"
mkdir -p "$out"/{bin,lib,tools,tests,bench}
for program in "$build"/bin/{tokamak,bench_*,test_*}; do strip -o "$out/bin/${program##*/}" "$program"; done
strip -o "$out/lib/libtokamak.so.0" "$build/lib/libtokamak.so.0"
ldd "$out"/bin/* "$out"/lib/* | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
  grep -vE '/(libc|libm|libdl|libpthread|librt|libresolv|libtokamak|ld-linux[^/]*)\.so' | xargs cp -L -t "$out/lib"
cp tools/{device_check.sh,races.py,races.txt,make_shape_model.py,bench_gpu.py,judge_device.py,judge_common.py,judge_requantized.py} "$out/tools"
cp bench/*.py "$out/bench"
cp -r tests/data "$out/tests"
du -sm "$out" | awk '{ print "bundle: " $2 ", " $1 " MB"; exit $1 > 60 }'
