#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Bad command lines through the real command: each case has its own exit code and words, nothing on stdout,
# three parts on stderr, and never a signal.
. tests/harness.sh

# the frame
fails 2 "unknown command" frobnicate
fails 2 "did you mean \`tokamak doctor\`" docter
fails 2 "did you mean --json" doctor --jsno
fails 2 "unknown option" doctor --frobnicate
fails 2 "unexpected operand" doctor x
fails 2 "an operand is missing" pull
fails 2 "unexpected operand" ls x
fails 2 "no command" --json
TOKAMAK_JSON=maybe fails 2 "TOKAMAK_JSON" ls
TOKAMAK_CPU=avx3 fails 2 "TOKAMAK_CPU" ls
TOKAMAK_CPU=plain works '"tier": "plain"' doctor --json
TOKAMAK_VERSION=7 works "" ls
works "usage: tokamak COMMAND" --help
works "tokamak " --version
works "tokamak " doctor --version
works "--json" doctor --help
works "--json" help doctor
while read -r command; do
    works "tokamak $command" $command --help # some names are two words
    [ "$(wc -l <"$dir/out")" -le 40 ] || { echo "FAILED: $command --help fills more than a screen" && failures=$((failures + 1)); }
done < <("$tokamak" --help | sed -n 's/^  \([a-z ]*[a-z]\)  .*/\1/p')
"$tokamak" --version >/dev/full 2>"$dir/err"
[ $? = 8 ] && grep -q "No space left" "$dir/err" || { echo "FAILED: a full stdout is not noticed" && failures=$((failures + 1)); }
if "$tokamak" frobnicate 2>&1 | grep -q $'\033'; then echo "FAILED: colour without a terminal" && failures=$((failures + 1)); fi
"$tokamak" $'frob\033[31m' 2>&1 | grep -q $'\033' && { echo "FAILED: control bytes are printed" && failures=$((failures + 1)); }
"$tokamak" -v docter 2>&1 | grep -q "no command" || { echo "FAILED: -v before the command" && failures=$((failures + 1)); }
"$tokamak" doctor --jsno -v 2>&1 | grep -q "at: options.c:" || { echo "FAILED: --verbose shows no place" && failures=$((failures + 1)); }

# the hub
fails 2 "names no model" pull nosuchmodel
fails 2 "names no model" pull hf:../../etc/passwd
fails 9 "check the network" pull hf:org/repo
HF_HUB_OFFLINE=1 fails 9 "HF_HUB_OFFLINE" pull smollm2
HF_HOME=/sys/tokamak fails 8 "set HF_HOME" pull hf:org/repo
fails 3 "is not here" rm smollm2 --yes
fails 2 "not the name of a pulled model" rm /etc --yes
fails 2 "not the name of a pulled model" rm nosuchmodel --yes
mkdir -p "$dir/hf/hub/models--org--repo/snapshots/c0/" "$dir/hf/hub/models--org--repo/refs"
printf c0 >"$dir/hf/hub/models--org--repo/refs/main"
echo x >"$dir/hf/hub/models--org--repo/snapshots/c0/a.gguf"
fails 10 "was not confirmed" rm org/repo
works "org/repo" ls
works '"bytes": 2' ls --json
works "" rm org/repo --yes
fails 3 "is not here" rm org/repo --yes

finish
