#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What only a terminal gets: the question before a pull, and colour. `script` lends the terminal.
. tests/harness.sh
script -qec true /dev/null >/dev/null 2>&1 || { echo "skipped: no script(1), or no terminals to lend" && exit 77; }

# on_terminal INPUT CODE WORDS ARGUMENT...
on_terminal() {
    local input=$1 want=$2 words=$3 code
    shift 3
    printf '%b' "$input" | TERM=xterm timeout 60 script -qec "$tokamak $*" "$dir/screen" >/dev/null
    code=$?
    cases=$((cases + 1))
    if [ $code != "$want" ] || ! grep -qF -- "$words" "$dir/screen"; then
        echo "FAILED on a terminal: tokamak $* -> $code, wanted $want with '$words'; the screen:"
        cat "$dir/screen"
        failures=$((failures + 1))
    fi
}
screen_has() { # screen_has yes|no BYTES
    cases=$((cases + 1))
    grep -q "$2" "$dir/screen" && found=yes || found=no
    [ $found = "$1" ] || { echo "FAILED: '$2' on the screen: $found" && failures=$((failures + 1)); }
}

on_terminal 'n\n' 3 'Pull it? [Y/n]' show org/absent
screen_has yes 'tokamak pull org/absent'
screen_has yes $'\033\\[1;31m'
on_terminal '\n' 9 'cannot reach' show org/absent
on_terminal 'y\n' 9 'cannot reach' show org/absent
on_terminal 'nonsense, and a lot of it, beyond one line\n' 3 'Pull it?' show org/absent
NO_COLOR=1 on_terminal 'n\n' 3 'is not here' show org/absent
screen_has no $'\033\\['
on_terminal '' 3 'no such file' show ./absent # a path is never offered
screen_has no 'Pull it'
mkdir -p "$dir/hf/hub/models--org--repo/snapshots/c0/" "$dir/hf/hub/models--org--repo/refs"
printf c0 >"$dir/hf/hub/models--org--repo/refs/main"
echo x >"$dir/hf/hub/models--org--repo/snapshots/c0/a.gguf"
on_terminal '\n' 10 'Remove org/repo' rm org/repo
on_terminal 'y\n' 0 'Remove org/repo' rm org/repo
fails 3 "is not here" rm org/repo --yes
finish
