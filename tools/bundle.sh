#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes BUILD/bundle: a folder that runs on another x86-64 Linux machine, without packages and wherever it lies. The
# command, the measuring programs and the tests that compute, stripped; the libraries that they need and a system may
# lack, but for the C library's own and the GPU driver's; the tests' data.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
out=$build/bundle
rm -rf "$out"
mkdir -p "$out/bin" "$out/lib" "$out/tools" "$out/tests"
for program in "$build"/bin/{tokamak,bench_*,test_device,test_kernels,test_gemm,test_models,test_generate,test_sampling}; do
  strip -o "$out/bin/$(basename "$program")" "$program"
done
ldd "$out"/bin/* | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
  grep -vE '/(libc|libm|libdl|libpthread|librt|libresolv|ld-linux[^/]*)\.so' | xargs cp -L -t "$out/lib"
cp tools/device_check.sh tools/make_shape_model.py "$out/tools"
cp -r tests/data "$out/tests"
du -sm "$out" | awk '{ print "bundle: " $2 ", " $1 " MB"; exit $1 > 60 }'
