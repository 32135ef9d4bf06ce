#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run, chat, eval, logits and bench through the real command, on the random model of tests/data/chat; chat also on a
# terminal (tests/chat_terminal.py). $TOKAMAK is the folder of the command.
tokamak="${TOKAMAK:-build/bin}/tokamak"
model=tests/data/chat
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failures=0 cases=0

# check NAME CONDITION...: a condition of [[ ]] or a command
check() {
    local name=$1
    shift
    cases=$((cases + 1))
    "$@" && return
    echo "FAILED: $name; stderr of the last command:"
    tail -5 "$dir/err"
    failures=$((failures + 1))
}
# t ARGUMENT...: stdout to $dir/out, stderr to $dir/err, exit code to $code
t() {
    timeout 60 "$tokamak" "$@" >"$dir/out" 2>"$dir/err"
    code=$?
}
says() { grep -qF -- "$1" "$dir/err"; }
answer() { cat "$dir/out"; }
ok() { [ $code = 0 ]; }
code_is() { [ $code = "$1" ]; }

# run: stdout is the answer and nothing else, the same for the same seed, from whatever source the prompt comes
t run $model --raw -p "Hello there" --seed 7 -n 40
check "run" ok
check "run says its speed" says "tok/s"
first=$(answer)
check "run answers" [ ${#first} -gt 0 ]
printf 'Hello there' >"$dir/prompt"
t run $model --raw -f "$dir/prompt" --seed 7 -n 40
check "prompt from a file" [ "$(answer)" = "$first" ]
t run $model --raw --seed 7 -n 40 <"$dir/prompt"
check "prompt from stdin" [ "$(answer)" = "$first" ]
t run $model --raw -p "Hello there" --seed 7 -n 40 --threads 1
check "one thread" [ "$(answer)" = "$first" ]
TOKAMAK_SEED=7 TOKAMAK_RAW=1 t run $model -p "Hello there" -n 40
check "options from the environment" [ "$(answer)" = "$first" ]
t run $model --raw -p "Hello there" --seed 7 -n 40 --stop "${first:3:2}"
check "stop string" [ "$(answer)" = "${first%%"${first:3:2}"*}" ]
t run $model --raw -p "Hello there" --temp 0 -n 8 --logit-bias 257=-1000 --logit-bias 65=1000
check "logit bias" [ "$(answer)" = AAAAAAAA ]
t run $model --raw -p "Hello there" --temp 0 -n 1 --kv-type f16 --ctx 32
check "other caches" ok
t run $model --raw -p "$(printf 'x%.0s' {1..150})" --logit-bias 257=-1000
check "full context" ok
check "full context is said" says "the context of 160 tokens is full"
check "full context: ten tokens" [ "$(answer | wc -c)" = 11 ]
t run $model --raw -p "$(printf 'x%.0s' {1..200})"
check "prompt longer than the context" code_is 6
check "both numbers are said" says "the prompt has 200 tokens, the context holds 160"
t run $model --raw -p $'a\xff'
check "prompt that is not UTF-8" code_is 4
t run $model --raw --system x -p y
check "system without template" code_is 2
t run $model -p y --logit-bias 300=1
check "bias of an unknown token" code_is 2
t run $model -p y --logit-bias 3
check "bias without value" code_is 2

# the chat template is applied unless --raw is given
t run $model -p "Hi" --temp 0 -n 20
check "run with template" ok
chat=$(answer)
t run $model --raw -p "Hi" --temp 0 -n 20
check "the template makes a difference" [ "$(answer)" != "$chat" ]
echo Hi | t run $model --temp 0 -n 20
t run $model --temp 0 -n 20 < <(echo Hi)
check "a line end is no part of the message" [ "$(answer)" = "$chat" ]

# chat from a pipe: the first answer is run's; later turns compute only what is new
printf 'Hi\nmore\n/save %s\n/clear\n/load %s\n/exit\nnever\n' "$dir/chat.json" "$dir/chat.json" >"$dir/lines"
t chat $model --temp 0 -n 10 <"$dir/lines"
check "chat" ok
check "chat answers as run does" [ "$(head -1 "$dir/out")" = "${chat:0:10}" ]
check "chat reuses the cache" grep -qE '\[[0-9]+ \+ [0-9]+ tokens, [1-9][0-9]* held' "$dir/err"
check "chat saves" grep -q '"role": "assistant"' "$dir/chat.json"
check "chat loads" says "(4 messages loaded)"
printf '/nonsense\n' >"$dir/lines"
t chat $model <"$dir/lines"
check "unknown chat command" code_is 2
printf '{"messages":[{"role":"robot","content":"x"}]}' >"$dir/bad.json"
printf '/load %s\n' "$dir/bad.json" >"$dir/lines"
t chat $model <"$dir/lines"
check "a chat file with an unknown role" code_is 4
printf '%s\n' "$(printf 'x%.0s' {1..200})" >"$dir/lines"
t chat $model <"$dir/lines"
check "a message longer than the context" code_is 6

# logits and eval
t logits $model --tokens 72,101,108,108,111 -o "$dir/l.npy"
check "logits" ok
check "logits: size" [ "$(stat -c %s "$dir/l.npy")" = $((128 + 5 * 259 * 4)) ]
check "logits: header" grep -qF "{'descr': '<f4', 'fortran_order': False, 'shape': (5, 259), }" "$dir/l.npy"
t logits $model --tokens 72,300 -o "$dir/bad.npy"
check "logits of an unknown token" code_is 2
check "no file is left" [ ! -e "$dir/bad.npy" ] && [ ! -e "$dir/bad.npy.part" ]
t logits $model --tokens 1,2 -o "$dir/no/such/l.npy"
check "logits to nowhere" code_is 8
t eval $model -p "Hello, this is a text to score." --json
check "eval" ok
check "eval: all but the first token" grep -q '"tokens": 30' "$dir/out"
check "eval: as transformers in float64, -9.298392" grep -q '"mean_logprob": -9.2983' "$dir/out"
t eval $model -p "Hello, this is a text to score." --ctx 8 --json
check "eval in windows of 8: 4 windows" grep -q '"tokens": 27' "$dir/out"
check "eval in windows: as transformers, -10.056189" grep -q '"mean_logprob": -10.0561' "$dir/out"
t eval $model -p "x" --json
check "eval of one token" code_is 2

t bench $model -p 16 -n 4 -b 2 -d 8 -r 2 --json
check "bench" ok
for key in prefill_tok_s decode_tok_s load_s peak_bytes prefill_limit_tok_s decode_limit_tok_s prefill_share decode_share; do
    check "bench has $key" grep -q "\"$key\": [0-9]" "$dir/out"
done
t bench $model -p 500
check "bench beyond the context" code_is 6

if command -v python3 >/dev/null; then
    check "chat on a terminal" python3 tests/chat_terminal.py "$tokamak" $model
else
    echo "skipped: no python3 for the terminal"
fi
echo "$cases cases, $failures failed"
[ $failures = 0 ]
