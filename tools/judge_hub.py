# SPDX-License-Identifier: Apache-2.0
"""Judge of the hub: Hugging Face's own library and `tokamak pull` must leave the same cache, byte for byte
and link for link, and each must find what the other fetched. Run from the repository's root with a Python
that has huggingface_hub: PYTHON tools/judge_hub.py [build/bin/tokamak]"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

command = sys.argv[1] if len(sys.argv) > 1 else "build/bin/tokamak"
server = subprocess.Popen([sys.executable, "tests/hub_server.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
port = server.stdout.readline().split()[0]
home = pathlib.Path(tempfile.mkdtemp())
os.environ.update(HF_ENDPOINT=f"http://127.0.0.1:{port}", HF_HOME=str(home), HF_HUB_DISABLE_XET="1", no_proxy="127.0.0.1")
from huggingface_hub import hf_hub_download, scan_cache_dir, try_to_load_from_cache  # noqa: E402 (reads the environment)

FILES = ["model.safetensors", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "config.json",
         "additional_chat_templates/tool_use.jinja"]


def tree():
    """Every path below the cache with what it holds; CACHEDIR.TAG, a note to backup programs, aside."""
    def what(p):
        return os.readlink(p) if p.is_symlink() else p.read_bytes() if p.is_file() else None
    return sorted((str(p.relative_to(home)), what(p)) for p in home.rglob("*") if p.name != "CACHEDIR.TAG")


def theirs(repo):
    for name in FILES:
        hf_hub_download(repo, name)


def ours(*words):
    return subprocess.run([command, *words], check=True, capture_output=True, text=True).stdout


def empty():
    shutil.rmtree(home / "hub", ignore_errors=True)


for repo in ("org/plain", "org/other-host", "org/relative"):
    if repo == "org/relative":
        FILES[:] = ["model.gguf"]
    empty()
    theirs(repo)
    want = tree()
    assert repo in ours("ls"), "ls does not see what huggingface_hub fetched"
    ours("pull", repo)
    assert tree() == want, f"{repo}: pull changed a complete cache"
    empty()
    ours("pull", repo)
    assert tree() == want, f"{repo}: another cache than huggingface_hub's"
    cache = scan_cache_dir()
    assert not cache.warnings and [r.repo_id for r in cache.repos] == [repo], cache
    assert try_to_load_from_cache(repo, FILES[0]), "huggingface_hub does not find what was pulled"
server.stdin.close()
shutil.rmtree(home)
print("the cache equals huggingface_hub's")
