#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Formatting, static analysis and the tree's own rules; fails on the first that complains.
set -euo pipefail
build=${1:-build}
python3 tools/check_tree.py
git ls-files '*.c' '*.h' | grep -v "unicode_\(data\|hf\|sets\).h" | xargs clang-format --dry-run --Werror
cppcheck --quiet --error-exitcode=1 --enable=warning,portability --inline-suppr --std=c11 --suppress=missingIncludeSystem \
  -I include -I src -D_GNU_SOURCE src
cmake --preset release -B "$build" -DCMAKE_EXPORT_COMPILE_COMMANDS=ON >/dev/null
git ls-files 'src/base/*.c' 'src/comm/*.c' 'src/core/*.c' 'src/model/*.c' 'src/text/*.c' 'src/infer/*.c' 'src/cli/*.c' 'src/hub/*.c' |
  xargs clang-tidy --quiet -p "$build"
