"""A server that begins without any model: it answers, says so, and serves what is brought while it runs."""
import threading
import time

import ollama
import pytest

import test_pull
from conftest import start_real

NAME = "hf.co/me/repo:Q4_0"
MESSAGES = [{"role": "user", "content": "Hello"}]


def wait_for(what, timeout=20):
    end = time.time() + timeout
    while not what():
        assert time.time() < end
        time.sleep(0.05)


@pytest.fixture
def hub(tmp_path):
    path = str(tmp_path / "m.gguf")
    test_pull.mkmodel.write(path, "llama-Q4_0")
    with open(path, "rb") as f:
        test_pull.Hub.files = {"Model-Q4_0.gguf": f.read()}
    test_pull.Hub.cut, test_pull.Hub.ranges, test_pull.Hub.private = {}, [], False
    server = test_pull.http.server.ThreadingHTTPServer(("127.0.0.1", 0), test_pull.Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture
def empty(tmp_path, monkeypatch, hub):
    monkeypatch.setenv("SLUICE_DATA", str(tmp_path / "data"))
    server = start_real(env={"SLUICE_KV_MEMORY": "64MiB", "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
                             "no_proxy": "*"})
    yield server
    assert server.stop() == 0


def test_answers_and_says_that_there_is_none(empty):
    with empty.client() as c:
        assert c.get("/health").json() == {"status": "ok"}
        ready = c.get("/ready")
        assert ready.status_code == 200 and ready.json()["message"].startswith("no model yet")
        assert c.get("/v1/models").json() == {"object": "list", "data": []}
        assert c.get("/v1/models", headers={"anthropic-version": "2023-06-01"}).json()["data"] == []
        assert c.get("/api/tags").json() == {"models": []}
        assert c.get("/api/ps").json() == {"models": []}
        assert c.get("/metrics").status_code == 200 and c.get("/openapi.json").status_code == 200
        assert c.get("/v1/batches").json()["data"] == []


def test_every_dialect_says_not_found(empty):
    anthropic = {"anthropic-version": "2023-06-01"}
    with empty.client() as c:
        def ask(path, **body):
            headers = anthropic if path.startswith("/v1/messages") else {}
            r = c.post(path, json=body, headers=headers)
            assert r.status_code == 404, (path, r.status_code, r.text)
            return r.json()

        for model in ({"model": "smollm2"}, {}):
            error = ask("/v1/chat/completions", messages=MESSAGES, **model)["error"]
            assert error["code"] == "model_not_found" and error["type"] == "invalid_request_error"
            assert ask("/v1/completions", prompt="x", **model)["error"]["code"] == "model_not_found"
            assert ask("/v1/responses", input="x", **model)["error"]["code"] == "model_not_found"
            assert ask("/v1/embeddings", input="x", **model)["error"]["code"] == "model_not_found"
        assert "sluice pull" in ask("/v1/chat/completions", messages=MESSAGES)["error"]["message"]
        error = ask("/v1/messages", model="smollm2", max_tokens=4, messages=MESSAGES)
        assert error["type"] == "error" and error["error"]["type"] == "not_found_error"
        assert ask("/v1/messages/count_tokens", model="smollm2", messages=MESSAGES)["error"]["type"] == "not_found_error"
        assert "not found" in ask("/api/chat", model="smollm2", messages=MESSAGES)["error"]
        assert "not found" in ask("/api/generate", model="smollm2", prompt="x")["error"]
        assert "not found" in ask("/api/embed", model="minilm", input="x")["error"]
        assert "not found" in ask("/api/show", model="smollm2")["error"]
        assert "error" in ask("/generate", inputs="x")
        assert "error" in ask("/completion", prompt="x")
        assert "error" in ask("/tokenize", prompt="x")
        for path in ("/info", "/props", "/slots"):
            assert c.get(path).status_code < 600 and c.get("/health").status_code == 200, path


def test_documents_name_the_model_they_lack(empty):
    with empty.client() as c:
        assert c.get("/v1/rag/documents").json()["data"] == []
        r = c.post("/v1/rag/documents", json={"name": "a.md", "text": "Water boils at 100 degrees."})
        assert 400 <= r.status_code < 600 and "sluice pull minilm" in r.json()["error"]["message"], r.text
        r = c.post("/v1/rag/query", json={"question": "When does water boil?"})
        assert 400 <= r.status_code < 600 and "sluice pull smollm2" in r.json()["error"]["message"], r.text


def test_what_is_pulled_serves(empty):
    client = ollama.Client(host=empty.base, trust_env=False)
    assert [p.status for p in client.pull("hf.co/me/repo:Q4_0", stream=True)][-1] == "success"
    assert [m.model for m in client.list().models] == ["hf.co/me/repo:Q4_0"]
    assert client.generate(NAME, "x", raw=True, options={"num_predict": 2}).eval_count == 2
    with empty.client() as c:
        assert c.get("/ready").json() == {"status": "ready"}
        assert [m["id"] for m in c.get("/v1/models").json()["data"]] == [NAME]
        r = c.post("/v1/completions", json={"prompt": "x", "max_tokens": 2})  # the first one there is
        assert r.status_code == 200 and r.json()["model"] == NAME
        assert c.post("/v1/completions", json={"model": "other", "prompt": "x"}).status_code == 404
        assert c.request("DELETE", "/api/delete", json={"model": NAME}).status_code == 200
        assert c.get("/api/tags").json() == {"models": []}
        assert "no model yet" in c.get("/ready").json()["message"]
        assert c.post("/v1/completions", json={"prompt": "x"}).status_code == 404


def test_what_a_command_pulls_serves(empty, hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.server_port}")
    test_pull.sluice("pull", "hf:me/repo:Q4_0", "--name", "mine")
    with empty.client() as c:
        wait_for(lambda: [m["id"] for m in c.get("/v1/models").json()["data"]] == ["mine"])
        r = c.post("/v1/chat/completions", json={"model": "mine", "messages": MESSAGES, "max_tokens": 2})
        assert r.status_code == 200, r.text


def test_a_configured_model_that_is_missing_ends_the_start(tmp_path, monkeypatch):
    monkeypatch.setenv("SLUICE_DATA", str(tmp_path / "data"))
    done = test_pull.sluice("serve", "--listen", "127.0.0.1:0", "--model", "smollm2", check=False)
    assert done.returncode != 0 and b"sluice pull smollm2" in done.stderr
    path = tmp_path / "c.yaml"
    path.write_text("loading: {only_configured: true}\n")
    done = test_pull.sluice("serve", "--listen", "127.0.0.1:0", "--config", str(path), check=False)
    assert done.returncode != 0 and b"sluice pull" in done.stderr
