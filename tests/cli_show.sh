# SPDX-License-Identifier: Apache-2.0
# show and template through the real command: what they tell of usable models, and what of others and why.
set -euo pipefail
t=$TOKAMAK/tokamak
fail() { echo "FAILED: $*" >&2; exit 1; }
python3 - "$t" tests/data/models <<'PY' || fail "show"
import json, os, shutil, subprocess, sys, tempfile
t, data = sys.argv[1:]
dir = tempfile.mkdtemp()

def run(*words, code=0, error="", stdin=None):
    r = subprocess.run([t, *words], capture_output=True, text=True, input=stdin)
    assert r.returncode == code and error in r.stderr, (words, r.returncode, r.stdout, r.stderr)
    return r.stdout

def show(path, code=0, error=""):
    return json.loads(run("show", path, "--json", code=code, error=error))

# usable: the memory is plan's, for each kind of file
for name in "gguf-text.gguf", "gguf-q8_0.gguf", "hf-llama", "hf-sharded", "llama2c-v0.bin":
    s = show(f"{data}/{name}")
    assert s["usable"] and "problem" not in s and s["family"] == "llama" and s["tensors"] > 5, s
    assert sum(v["tensors"] for v in s["weight_types"].values()) == s["tensors"] and all(v["supported"] for v in s["weight_types"].values()), s
    last = s["memory"][-1]
    assert last["ctx"] == s["context"] and last["total"] == last["weights"] + last["kv"] + last["work"], s
    plan = json.loads(run("plan", f"{data}/{name}", "--ctx", str(last["ctx"]), "--json"))
    assert last["total"] == plan["total"] + plan["mapped"] and last["kv"] == plan["state"] and s["kv_type"] == plan["kv_type"], (s, plan)
assert "memory" in run("show", f"{data}/hf-llama") and "4 of 4 (2 for keys and values)" in run("show", f"{data}/hf-llama")

# not usable: the reason by name, what is readable, and run's exit code
config = json.load(open(f"{data}/hf-llama/config.json"))
cases = [({"model_type": "frobnicator"}, 5, 'unknown architecture "frobnicator"'), ({"quantization_config": {"quant_method": "frobq"}}, 5, "frobq"),
         ({"rope_scaling": {"rope_type": "spiral"}}, 5, "spiral"), ({"hidden_act": "softfrob"}, 5, "softfrob"), ({"hidden_size": 20}, 4, "")]
for i, (change, code, words) in enumerate(cases):
    folder = f"{dir}/{i}"
    shutil.copytree(f"{data}/hf-llama", folder)
    json.dump({k: v for k, v in {**config, **change}.items() if not (k == "rope_parameters" and "rope_scaling" in change)}, open(f"{folder}/config.json", "w"))
    s = show(folder, code, words)
    assert not s["usable"] and words in s["problem"] and s["problem"].count("\n") >= 1, s
    assert s["family"] == change.get("model_type", "llama") and s["tensors"] > 5 and s["weight_types"], s
    assert s["chat_templates"] == ["tool_use", "default"], s
    assert "problem" in run("show", folder, code=code) and "layers" in run("show", folder, "--meta", code=0) and "embed" in run("show", folder, "--tensors")
s = show(f"{dir}/0/model.safetensors", 2, "give the folder")
assert s["format"] == "safetensors, one file" and s["tensors"] > 5, s
os.remove(f"{dir}/0/config.json")
assert show(f"{dir}/0", 3, "no config.json")["tensors"] > 5
os.remove(f"{dir}/1/model.safetensors")
assert show(f"{dir}/1", 5, "frobq")["tokenizer"] is None

open(f"{dir}/frob.gguf", "wb").write(open(f"{data}/gguf-text.gguf", "rb").read().replace(b"llama", b"frobb"))
s = show(f"{dir}/frob.gguf", 5, 'unknown architecture "frobb"')
assert s["family"] == "frobb" and s["tokenizer"]["size"] == 259 and s["chat_templates"] == ["default"] and s["tensors"] > 5, s
s = show(f"{data}/vocab.gguf", 4, "vocabulary only")
assert s["tokenizer"] and not s["usable"], s

# licenses and templates
shutil.copytree(f"{data}/hf-llama", f"{dir}/m")
open(f"{dir}/m/README.md", "w").write("---\nlanguage: en\nlicense:  apache-2.0\n---\nlicense: none\n")
os.mkdir(f"{dir}/m/additional_chat_templates")
open(f"{dir}/m/chat_template.jinja", "w").write("plain{{ messages[0].thinking }}{{ messages[0] }}")
open(f"{dir}/m/additional_chat_templates/tool_use.jinja", "w").write("tools{{ tools|length }}")
open(f"{dir}/m/additional_chat_templates/rag.jinja", "w").write("rag")
open(f"{dir}/m/tokenizer.json", "w").write("{}")
s = show(f"{dir}/m")
assert s["license"] == "apache-2.0" and s["chat_templates"] == ["default", "rag", "tool_use"], s
assert run("show", f"{dir}/m", "--template", "--name", "rag") == "rag"
run("show", f"{dir}/m", "--template", "--name", "x", code=3, error="default, rag, tool_use")
run("show", f"{dir}/m", "--name", "rag", code=2, error="--template")
chat = lambda **more: json.dumps({"messages": [{"role": "user", "reasoning": "hm"}], **more})
assert run("template", f"{dir}/m", stdin=chat()) == "plainhm{'thinking': 'hm', 'role': 'user', 'reasoning': 'hm', 'reasoning_content': 'hm'}"
assert run("template", f"{dir}/m", stdin=chat(tools=[1, 2])) == "tools2"
assert run("template", f"{dir}/m", "--template", "rag", stdin=chat(tools=[1, 2])) == "rag"
open(f"{dir}/chats", "w").write(chat() + "\n" + chat(tools=[3]) + "\n" + chat() + "\n")
assert [json.loads(x)[:5] for x in run("template", f"{dir}/m", "--jsonl", f"{dir}/chats").splitlines()] == ["plain", "tools", "plain"]
run("template", f"{dir}/m", "--template", "x", stdin=chat(), code=3, error="default, rag, tool_use")
run("template", f"{dir}/m/chat_template.jinja", "--template", "x", stdin=chat(), code=2, error="one template")
run("run", f"{data}/gguf-text.gguf", "--template", "rag", "-p", "x", code=3, error='named "rag"')

# a tokenizer of one's own is used, not ignored
for command in "plan", "explain", "show":
    run(command, f"{data}/gguf-q8_0.gguf", "--tokenizer", f"{data}/gguf-text.gguf")
    if command != "show":
        run(command, f"{data}/gguf-q8_0.gguf", "--tokenizer", f"{dir}/m", code=4)
        run(command, f"{data}/gguf-q8_0.gguf", "--tokenizer", "absent.json", code=3, error="absent.json")
assert show(f"{data}/gguf-q8_0.gguf")["tokenizer"] is None
assert json.loads(run("show", f"{data}/gguf-q8_0.gguf", "--tokenizer", f"{data}/gguf-text.gguf", "--json"))["tokenizer"]["size"] == 259
shutil.rmtree(dir)
PY
echo "show, template: fine"
