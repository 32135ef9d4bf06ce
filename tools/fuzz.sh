#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds every fuzz target with libFuzzer, ASan and UBSan and runs each for FUZZ_SECONDS, adding to the kept corpus
# only in the build folder. Stops at the first finding.
set -euo pipefail
cmake --preset fuzz >/dev/null
for source in tests/fuzz/fuzz_*.c; do
  name=$(basename "$source" .c)
  cmake --build build-fuzz --target "$name"
  mkdir -p "build-fuzz/corpus/$name"
  "build-fuzz/bin/$name" -max_total_time="${FUZZ_SECONDS:-60}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    "build-fuzz/corpus/$name" "tests/corpus/${name#fuzz_}"
done
