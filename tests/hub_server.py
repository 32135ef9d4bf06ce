# SPDX-License-Identifier: Apache-2.0
"""A hub that misbehaves on request: the local server of tests/test_hub.c.

It speaks the part of Hugging Face's protocol that `pull` uses. The repository's name says what goes
wrong. It prints its two ports (the hub, and another origin that plays the download host), then serves
until its stdin closes. GET /stats gives what was asked, as JSON."""
import hashlib
import http.server
import json
import sys
import threading
import time

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_secret"
stats = {"ranges": [], "gets": {}, "leaks": 0, "cdn": 0}
lock = threading.Lock()


def content(repo, name):
    """Deterministic bytes; weights are 300 kB, the rest is short."""
    seed = hashlib.sha256(f"{repo}/{name}".encode()).digest()
    if name.endswith((".safetensors", ".gguf")):
        return b"".join(hashlib.sha256(seed + i.to_bytes(4, "little")).digest() for i in range(9600))
    return json.dumps({"file": name, "repo": repo}).encode()


def etag(repo, name, data):
    if repo == "org/wronghash":
        return "0" * 64
    if repo == "org/eviletag":
        return "../../../evil"
    if name.endswith((".safetensors", ".gguf")):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


FOLDER = ["README.md", "config.json", "generation_config.json", "model.safetensors", "model.fp16.safetensors",
          "onnx/model.onnx", "onnx/x.safetensors", "tokenizer.json", "tokenizer_config.json",
          "additional_chat_templates/tool_use.jinja", "additional_chat_templates/old/x.jinja", "additional_chat_templates/notes.md"]
SHARDED = ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
           "model.safetensors.index.json", "consolidated.safetensors", "tokenizer.json"]
LISTS = {
    "org/plain": FOLDER, "org/sharded": SHARDED, "org/other-host": FOLDER, "org/private": FOLDER,
    "org/many": ["a.Q4_0.gguf", "a.Q8_0.gguf", "sub dir/c.F16.gguf"],
    "org/split": ["README.md"] + ["q8/m-0000%d-of-00003.gguf" % i for i in (1, 2, 3)] + ["q4/m-0000%d-of-00002.gguf" % i for i in (2, 1)],
    "org/split-less": ["m-00001-of-00003.gguf", "m-00003-of-00003.gguf"], "org/split-many": ["m-00001-of-99999.gguf"],
    "org/nothing-useful": ["README.md", "pytorch_model.bin"],
    "org/evil-up": ["a.gguf", "../../../evil.gguf"], "org/evil-root": ["/tmp/evil.gguf"],
    "org/evil-inner": ["a/../../b.gguf"], "org/evil-control": ["a\u001b[31m.gguf"], "org/evil-nul": ["a\u0000b.gguf"],
    "org/evil-long": ["x" * 300 + ".gguf"], "org/evil-deep": ["a/" * 600 + "x.gguf"], "org/evil-type": [7],
    "org/evil-empty": [""], "org/evil-back": ["..\\x.gguf"],
}


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for k, v in headers.items():
            self.send_header(k.replace("_", "-"), str(v))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def listing(self, repo):
        if repo == "org/badjson":
            return self.answer(200, b"{\"sha\": ")
        if repo == "org/deepjson":
            return self.answer(200, b"[" * 200000)
        if repo == "org/nosha":
            return self.answer(200, json.dumps({"sha": "../../x", "siblings": []}).encode())
        if repo == "org/hugejson":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b" " * 1000000)
            except OSError:
                self.close_connection = True
                return None
        names = LISTS.get(repo, ["model.gguf"])
        return self.answer(200, json.dumps({"sha": COMMIT, "siblings": [{"rfilename": n} for n in names]}).encode())

    def trouble(self, repo):
        """Answers that stand for the whole repository; True if one was given."""
        authorized = self.headers.get("Authorization") == "Bearer " + TOKEN
        with lock:
            count = stats["gets"][repo] = stats["gets"].get(repo, 0) + 1
        if repo == "org/private" and not authorized:
            self.answer(401, X_Error_Message="Invalid username or password.")
        elif repo == "org/gated":
            self.answer(403, X_Error_Code="GatedRepo", X_Error_Message="Access to model org/gated is restricted.")
        elif repo == "org/missing":
            self.answer(404, X_Error_Message="Repository not found")
        elif repo == "org/s429":
            self.answer(429, Retry_After=3600)
        elif repo == "org/busy" and count == 1:
            self.answer(429, Retry_After=1)
        elif repo == "org/s500":
            self.answer(500)
        elif repo == "org/flaky" and count in (1, 3):
            self.answer(503)
        elif repo == "org/loop":
            self.answer(302, Location=self.path)
        elif repo == "org/file-scheme":
            self.answer(302, Location="file:///etc/passwd")
        elif repo == "org/headers":
            self.send_response(200)
            try:
                while True:
                    self.wfile.write(b"X-Filler: " + b"x" * 1000 + b"\r\n")
            except OSError:
                self.close_connection = True
        elif repo == "org/silent":
            time.sleep(4)
            self.close_connection = True
        else:
            return False
        return True

    def do_GET(self):
        if self.path == "/stats":
            return self.answer(200, json.dumps(stats).encode())
        parts = self.path.strip("/").split("/")
        if parts[0] == "api":
            repo = "/".join(parts[2:4])
            return None if self.trouble(repo) else self.listing(repo)
        if parts[0] == "moved":  # where a relative redirect leads
            parts = parts[1:]
        repo, name = "/".join(parts[:2]), "/".join(parts[4:]).replace("%20", " ")
        if self.trouble(repo):
            return None
        data = content(repo, name)
        tag = etag(repo, name, data)
        size = 1 << 50 if repo == "org/huge" else len(data)
        commit = "f" * 40 if repo == "org/othercommit" else COMMIT
        facts = {"ETag": f'"{tag}"', "X-Repo-Commit": commit}
        if repo == "org/other-host":
            facts["ETag"] = '"of-the-redirect"'
            return self.answer(302, X_Linked_Etag=f'"{tag}"', X_Linked_Size=size,
                               Location=f"http://127.0.0.1:{ports[1]}/{repo}/{name}", **facts)
        if repo == "org/relative" and not self.path.startswith("/moved"):
            return self.answer(307, Location="/moved" + self.path)
        if self.command == "HEAD":
            self.send_response(200)
            for k, v in facts.items():
                self.send_header(k, v)
            if repo != "org/nosize":
                self.send_header("Content-Length", str(size))
            self.end_headers()
            return None
        return self.body(repo, name, data)

    do_HEAD = do_GET

    def body(self, repo, name, data):
        first, status, extra = 0, 200, {}
        wanted = self.headers.get("Range")
        with lock:
            stats["ranges"].append([repo, wanted or ""])
            served = stats["gets"][repo + "#body"] = stats["gets"].get(repo + "#body", 0) + 1
        if wanted and repo != "org/norange":
            first, status = int(wanted[6:].split("-")[0]), 206
            if first >= len(data):
                return self.answer(416)
            told = 5 if repo == "org/badrange" else first
            extra = {"Content_Range": f"bytes {told}-{len(data) - 1}/{len(data)}"}
        part = data[first:]
        if repo == "org/endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x" * 100000)
            except OSError:
                self.close_connection = True
                return None
        if repo == "org/toolong":
            return self.answer(200, data + b"more")
        if repo == "org/damaged":
            part = bytes([part[0] ^ 1]) + part[1:]
        cut = {"org/cut": len(part) // 2 if served < 4 else len(part), "org/cutforever": 0}.get(repo, len(part))
        if cut < len(part):
            self.send_response(status)
            for k, v in extra.items():
                self.send_header(k.replace("_", "-"), v)
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part[:cut])
            self.close_connection = True
            return None
        if repo == "org/slow":
            time.sleep(0.7)
        return self.answer(status, part, **extra)


class Other(Hub):
    """Another origin: a token that arrives here has leaked."""

    def do_GET(self):
        repo, name = "/".join(self.path.split("/")[1:3]), "/".join(self.path.split("/")[3:])
        with lock:
            stats["cdn"] += 1
            stats["leaks"] += "Authorization" in self.headers
        return self.body(repo, name, content(repo, name))

    do_HEAD = do_GET


servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) for handler in (Hub, Other)]
ports = [s.server_address[1] for s in servers]
for s in servers:
    s.daemon_threads = True
    s.handle_error = lambda *args: None  # clients that hang up are part of the tests
    threading.Thread(target=s.serve_forever, daemon=True).start()
print(*ports, flush=True)
sys.stdin.read()
