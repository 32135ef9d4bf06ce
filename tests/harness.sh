#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Sourced by tests/cli_*.sh, which drive the real command; $TOKAMAK is its folder. Every run gets an empty
# model cache and no network. End a script with `finish`.
tokamak="${TOKAMAK:-build/bin}/tokamak"
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
export HF_HOME="$dir/hf" HF_ENDPOINT=http://127.0.0.1:1 no_proxy=127.0.0.1
unset HF_HUB_CACHE HF_TOKEN HF_HUB_OFFLINE NO_COLOR
failures=0 cases=0

# fails CODE WORDS ARGUMENT...
fails() {
    local want=$1 words=$2 code
    shift 2
    timeout 60 "$tokamak" "$@" >"$dir/out" 2>"$dir/err" </dev/null
    code=$?
    cases=$((cases + 1))
    if [ $code != "$want" ] || ! grep -qF -- "$words" "$dir/err" || [ -s "$dir/out" ] ||
        [ "$(grep -cE '^(error|  why|   do): ' "$dir/err")" != 3 ]; then
        echo "FAILED: tokamak $* -> $code, wanted $want with '$words'; stderr:"
        cat "$dir/err"
        failures=$((failures + 1))
    fi
}
# works WORDS ARGUMENT...
works() {
    local words=$1
    shift
    cases=$((cases + 1))
    if ! timeout 60 "$tokamak" "$@" >"$dir/out" 2>"$dir/err" </dev/null || { [ "$words" ] && ! grep -qF -- "$words" "$dir/out"; }; then
        echo "FAILED: tokamak $*; stderr:"
        cat "$dir/err"
        failures=$((failures + 1))
    fi
}

finish() {
    echo "$((cases - failures)) of $cases cases passed"
    [ $failures = 0 ]
}
