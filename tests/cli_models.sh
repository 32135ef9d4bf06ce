#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Models, tokenizers and templates that are missing, damaged or not what they claim, through the command.
. tests/harness.sh

# models: every way for one not to be there or not to be one
m="$dir/models"
mkdir -p "$m/empty" "$m/config-only" "$m/no-shard" "$m/family"
: >"$m/nothing.gguf"
head -c 5000 /dev/zero >"$m/zeros.gguf"
head -c 5000 /dev/zero | tr '\0' '\377' >"$m/ones.bin"
printf 'GGUF\3\0\0\0' >"$m/short.gguf"
printf 'GGUF\3\0\0\0\377\377\377\377\377\377\377\177\0\0\0\0\0\0\0\0' >"$m/many.gguf"
printf 'GGUF\11\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0' >"$m/version9.gguf"
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 98362432\n' >"$m/lfs.gguf"
llama='"model_type":"llama","hidden_size":8,"num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":8,"vocab_size":8,"rms_norm_eps":1e-5,"max_position_embeddings":8'
echo "{$llama}" >"$m/config-only/config.json"
echo "{$llama}" >"$m/no-shard/config.json"
echo '{"weight_map":{"model.embed_tokens.weight":"model-00001-of-00002.safetensors"}}' >"$m/no-shard/model.safetensors.index.json"
echo '{"model_type":"frobnicator","hidden_size":8}' >"$m/family/config.json"
cp "$m/lfs.gguf" "$m/family/model.safetensors"
fails 3 "no such file" show "$m/absent.gguf"
fails 3 "no such file" show ./absent
fails 3 "tokamak ls" show absent
fails 3 "tokamak pull org/absent" show org/absent
fails 2 "name is empty" show ""
fails 3 "holds no model" show "$m/empty"
fails 4 "Git-LFS" show "$m/lfs.gguf"
fails 3 "" run "$m/config-only" -p x
fails 3 "model-00001-of-00002.safetensors" run "$m/no-shard" -p x
fails 5 "frobnicator" run "$m/family" -p x
fails 4 "" show "$m/nothing.gguf"
fails 5 "" show "$m/zeros.gguf"
fails 5 "" show "$m/ones.bin"
fails 4 "" show "$m/short.gguf"
fails 4 "" show "$m/many.gguf"
fails 5 "version" show "$m/version9.gguf"
fails 2 "not a file" show /dev/zero
if chmod 000 "$m/zeros.gguf" && ! cat "$m/zeros.gguf" >/dev/null 2>&1; then fails 8 "permission" show "$m/zeros.gguf"; fi

# tokenizers and templates
fails 3 "no such file" tokenize "$m/absent/tokenizer.json" -p x
echo '{"model":{"type":"BPE"' >"$m/tokenizer.json"
fails 4 "tokenizer.json" tokenize "$m/tokenizer.json" -p x
echo '{"model":{"type":"Frobnicator"}}' >"$m/tokenizer.json"
fails 5 "Frobnicator" tokenize "$m/tokenizer.json" -p x
printf '{"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}' >"$m/tokenizer.json"
works "[2, 0]" tokenize "$m/tokenizer.json" -p aba
works "ab a" detokenize "$m/tokenizer.json" --tokens 2,0
fails 2 "both --prompt and --file" tokenize "$m/tokenizer.json" -p x -f y
fails 3 "cannot open" tokenize "$m/tokenizer.json" -f "$m/absent.txt"
fails 2 "--jsonl" tokenize "$m/tokenizer.json" -p x --jsonl y
echo 'not json' >"$m/lines"
fails 4 "line 1" tokenize "$m/tokenizer.json" --jsonl "$m/lines"
fails 2 "bad token id" detokenize "$m/tokenizer.json" --tokens 1,x
fails 2 "3" detokenize "$m/tokenizer.json" --tokens 3
fails 2 "no ids" detokenize "$m/tokenizer.json"
printf '{%% for m in messages %%}{{ m.role }}: {{ m.content }};{%% endfor %%}' >"$m/t.jinja"
echo '{"messages":[{"role":"user","content":"hi"}]}' >"$m/chat.json"
works "user: hi;" template "$m/t.jinja" -f "$m/chat.json"
echo '[{"role":"user","content":"hi"}]' >"$m/list.json"
works "user: hi;" template "$m/t.jinja" -f "$m/list.json"
printf '{%% for %%}' >"$m/bad.jinja"
fails 4 "line 1" template "$m/bad.jinja" -f "$m/chat.json"
printf '{{ raise_exception("roles must alternate") }}' >"$m/raise.jinja"
fails 4 "roles must alternate" template "$m/raise.jinja" -f "$m/chat.json"
fails 4 "is no chat" template "$m/t.jinja" -f "$m/lines"
fails 3 "no chat template" template "$m/tokenizer.json" -f "$m/chat.json"
fails 2 "both --file and --jsonl" template "$m/t.jinja" -f x --jsonl y

# the engine: what a request can ask that the model cannot give
text=tests/data/models/gguf-text.gguf # 16 positions, 259 tokens
bare=tests/data/models/gguf-q8_0.gguf # 20 tokens, no tokenizer
head -c 15000 "$text" >"$m/cut.gguf"
printf 'a\377\376b' >"$m/bytes"
works "" run "$text" --raw -p ab --temp 0 -n 3
for command in run eval bench plan explain; do fails 3 "no such file" $command "$m/absent.gguf"; done
fails 4 "truncated" run "$m/cut.gguf" -p x
fails 4 "Git-LFS" run "$m/lfs.gguf" -p x
fails 3 "no tokenizer" run "$bare" -p x
fails 6 "has 36 tokens, the context holds 16" run "$text" --raw -p aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
fails 6 "the model was made for 16" run "$text" --ctx 1000000000 -p x
fails 4 "not UTF-8" run "$text" --raw -f "$m/bytes"
fails 2 "unknown device 'gpu'" run "$text" --device gpu -p x
CUDA_VISIBLE_DEVICES='' fails 12 "CUDA" run "$text" --device cuda -p x
fails 2 "--threads" run "$text" --threads 0 -p x
fails 2 "--temp" run "$text" --temp nan -p x
fails 2 "--kv-type" run "$text" --kv-type q4 -p x
fails 2 "--logit-bias" run "$text" --logit-bias x=1 -p x
fails 2 "ids 0 to 19" logits "$bare" --tokens 1,20 -o "$m/o.npy"
fails 8 "cannot write" logits "$bare" --tokens 1 -o "$m/absent/o.npy"
fails 2 "-o is missing" logits "$bare" --tokens 1

finish
