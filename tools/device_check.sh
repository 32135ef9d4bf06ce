#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything that needs a GPU, from a bundle (tools/bundle.sh) or a build folder beside the source: op tests, whole models,
# invariance, the sanitizer's memory check, timings. Run it on the GPU machine:
#     tools/device_check.sh [ops|models|memcheck|speed ...]       default: all of them; under 5 minutes
# MODEL names a model file for the timings (default: a small one of the tests).
set -uo pipefail
cd "$(dirname "$0")/.."
bin=bin
[ -x bin/tokamak ] || bin=build/bin
[ -d lib ] && export LD_LIBRARY_PATH="$PWD/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
model=${MODEL:-tests/data/models/gguf-q8_0.gguf}
failures=0
step() { # NAME COMMAND...
  local name=$1 began=$SECONDS
  shift
  if "$@"; then echo "== $name: fine ($((SECONDS - began)) s)"; else
    echo "== $name: FAILED ($((SECONDS - began)) s)"
    failures=$((failures + 1))
  fi
}
quiet() { "$@" >"${TMPDIR:-/tmp}/device_check.log" 2>&1 || { tail -25 "${TMPDIR:-/tmp}/device_check.log"; return 1; }; }
greedy() { # the same answer from both devices
  local there here
  there=$("$bin/tokamak" run "$1" --device cuda -p "Once upon a time" -n 16 --temp 0) || return 1
  here=$("$bin/tokamak" run "$1" -p "Once upon a time" -n 16 --temp 0) || return 1
  [ "$there" = "$here" ] || { printf 'cuda: %s\ncpu:  %s\n' "$there" "$here"; return 1; }
}
command -v compute-sanitizer >/dev/null || PATH=$PATH:/usr/local/cuda/bin
"$bin/tokamak" doctor | grep -iE 'gpu|cpu +model'
for part in "${@:-ops models memcheck speed}"; do
  for what in $part; do
    case $what in
    ops)
      step "kernel rows" quiet "$bin/test_kernels" cuda
      step "products" quiet "$bin/test_gemm"
      ;;
    models)
      step "whole models" quiet "$bin/test_models" cuda
      step "layers of real shapes" quiet "$bin/test_device" cuda
      step "greedy answers" greedy tests/data/chat
      ;;
    memcheck)
      for tool in memcheck synccheck initcheck; do
        step "$tool, rows" quiet compute-sanitizer --tool $tool --error-exitcode 9 "$bin/test_kernels" cuda
      done
      for tool in memcheck racecheck; do # racecheck takes minutes for all rows; a model has most of them
        step "$tool, a model" quiet compute-sanitizer --tool $tool --error-exitcode 9 "$bin/tokamak" run tests/data/chat --device cuda -p Hello -n 2 --temp 0
      done
      ;;
    speed)
      "$bin/tokamak" bench "$model" --device cuda --ops
      "$bin/tokamak" bench ops --device cuda
      "$bin/bench_cuda"
      ;;
    *) echo "no such part: $what" && exit 2 ;;
    esac
  done
done
[ $failures = 0 ] && echo "device check: fine"
exit $((failures > 0))
