#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything that needs a GPU, from a bundle (tools/bundle.sh) or a build folder beside the source. Run it on the GPU machine:
#     tools/device_check.sh [ops|models|sanitize|speed ...]       default: all of them; under 10 minutes
# ops: every row of the kernel table with two seeds, products, fused windows; models: whole models, invariance, greedy text;
# sanitize: memcheck, racecheck, synccheck and initcheck over the same at small shapes, in parts side by side; speed: timings.
# LOGS names a folder that keeps every step's output, JOBS how many run at once, LIMIT the seconds of one part, MODEL a file for
# the timings (default: a small one of the tests).
set -uo pipefail
cd "$(dirname "$0")/.."
bin=bin
[ -x bin/tokamak ] || bin=build/bin
[ -d lib ] && export LD_LIBRARY_PATH="$PWD/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export bin LOGS=${LOGS:-$(mktemp -d)} LIMIT=${LIMIT:-300}
model=${MODEL:-tests/data/models/gguf-q8_0.gguf}
jobs=${JOBS:-4} # more wait for each other: programs share a GPU by slices of time
mkdir -p "$LOGS"

# NAME|COMMAND in $bin, one a line, on stdin: all of them, side by side; says how each ended. Status 1: one failed.
side_by_side() { tr '\n' '\0' | xargs -0 -P "$jobs" -I{} bash -c "$(declare -f one greedy); said=\$(one \"\$1\"); rc=\$?; echo \"\$said\"; exit \$rc" one {}; }
one() {
  local name=${1%%|*} began=$SECONDS log rc
  log=$LOGS/${name//[ \/]/-}.log
  eval "set -o pipefail; export PATH=$bin:\$PATH; ${1#*|}" >"$log" 2>&1
  rc=$?
  [ $rc = 0 ] && printf '== %s: fine (%d s)\n' "$name" $((SECONDS - began)) && return 0
  printf '== %s: FAILED, status %d (%d s)\n' "$name" $rc $((SECONDS - began))
  grep -aE '^(ERROR|\[ *ERROR|error|race)|=========' "$log" | head -20
  return 1
}
greedy() { # the same answer from both devices
  local there here
  there=$(tokamak run "$1" --device cuda -p "Once upon a time" -n 16 --temp 0) || return 1
  here=$(tokamak run "$1" -p "Once upon a time" -n 16 --temp 0) || return 1
  [ "$there" = "$here" ] || { printf 'error: cuda: %s\nerror: cpu:  %s\n' "$there" "$here"; return 1; }
}

ops() {
  local seed part
  echo "fused windows|test_windows"
  for seed in $RANDOM$RANDOM 1795282344; do
    for part in 0 1 2 3; do echo "rows $part of 4, seed $seed|TOKAMAK_TEST_SEED=$seed test_kernels cuda $part/4"; done
  done
  echo "products|test_gemm"
}
models() {
  echo "whole models|test_models cuda"
  echo "layers of real shapes|test_device cuda"
  echo "greedy answers|greedy tests/data/chat"
}
# A kernel's accesses are looked at whatever its numbers: the smallest product of each kind, each case once, one seed. racecheck
# has false alarms, listed in tools/races.txt; it tells them apart in builds with -DTOKAMAK_LINES=ON.
sanitize() {
  local tool part parts w check end
  for tool in racecheck memcheck synccheck initcheck; do
    check="timeout $LIMIT compute-sanitizer --tool $tool --error-exitcode 9" end=""
    [ $tool = racecheck ] && check="timeout $LIMIT compute-sanitizer --tool racecheck --print-limit 100000" end="| python3 tools/races.py"
    parts=$([ $tool = racecheck ] && echo 8 || echo 2)
    for ((part = 0; part < parts; part++)); do echo "$tool, rows $part of $parts|TOKAMAK_TEST_SEED=1 $check test_kernels cuda $part/$parts once $end"; done
    for w in bf16 q8_0 f8 q4_0 q4_1 q5_1 q6_k; do echo "$tool, products $w|$check test_gemm 'h_$w 128x256' $end"; done
    echo "$tool, products e4m3|$check test_gemm e4m3 $end"
    for w in linear norm glu bias rope attn; do echo "$tool, windows of $w|$check test_windows $w 8 $end"; done
    echo "$tool, attention of many|$check test_windows attn_paged_quant 130 $end"
    echo "$tool, a model|$check tokamak run tests/data/chat --device cuda -p Hello -n 2 --temp 0 $end"
  done
}
command -v compute-sanitizer >/dev/null || PATH=$PATH:/usr/local/cuda/bin
"$bin/tokamak" doctor | grep -iE "gpu|cpu +model" | tee "$LOGS/machine.log"
grep -q "no CUDA" "$LOGS/machine.log" && exit 2
failures=0
for part in "${@:-ops models sanitize speed}"; do
  for what in $part; do
    case $what in
    ops | models | sanitize) $what | side_by_side || failures=1 ;;
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
exit $failures
