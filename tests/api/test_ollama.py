"""Ollama's dialect of the real binary: its official client, the raw lines, and the models behind them
coming and going."""
import concurrent.futures
import glob
import hashlib
import json
import os
import re
import shutil
import socket
import sys
import threading
import time

import ollama
import pytest

from conftest import Server, sluice, start_real

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tools"))

import mkmodel  # noqa: E402

GREEDY = {"temperature": 0, "num_predict": 12}
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def copy_data(to):
    """A store of the test's own whose blobs are links to the shared ones."""
    source = os.environ.get("SLUICE_DATA")
    if not source:
        pytest.skip("SLUICE_DATA is not set")
    models = os.path.join(to, "models")
    for name in ("blobs", "partial"):
        os.makedirs(os.path.join(models, name))
    for blob in glob.glob(os.path.join(source, "models", "blobs", "*")):
        os.symlink(blob, os.path.join(models, "blobs", os.path.basename(blob)))
    for name in ("manifests", "trees"):
        shutil.copytree(os.path.join(source, "models", name), os.path.join(models, name), symlinks=True)
    return str(to)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts servers over a store of the test's own."""
    started = []
    monkeypatch.setenv("SLUICE_DATA", copy_data(tmp_path / "data"))

    def make(*args, **env):
        started.append(start_real(*args, env={"SLUICE_KV_MEMORY": "64MiB", **env}))
        return started[-1]

    yield make
    for server in started:
        server.stop()


@pytest.fixture(scope="module")
def shared():
    server = start_real("--model", "smollm2", "--model", "minilm")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def client(shared):
    return ollama.Client(host=shared.base, trust_env=False)


@pytest.fixture(scope="module")
def c(shared):
    with shared.client(timeout=120) as http:
        yield http


def client_of(server):
    return ollama.Client(host=server.base, trust_env=False)


def loaded(server):
    return [m.model for m in client_of(server).ps().models]


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def rss(server):
    with open(f"/proc/{server.process.pid}/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS"))


# ---- answers ----------------------------------------------------------------------------------


def test_chat_whole_and_streamed(client):
    whole = client.chat("smollm2", QUESTION, options=GREEDY)
    parts = list(client.chat("smollm2:latest", QUESTION, options=GREEDY, stream=True))
    assert whole.message.content
    assert "".join(p.message.content for p in parts) == whole.message.content
    assert [p.done for p in parts] == [False] * (len(parts) - 1) + [True]
    assert whole.done_reason == parts[-1].done_reason
    assert whole.prompt_eval_count == parts[-1].prompt_eval_count > 0
    assert whole.eval_count == parts[-1].eval_count > 0
    for last in (whole, parts[-1]):
        assert last.total_duration >= last.eval_duration > 0 and last.load_duration >= 0
        assert last.total_duration >= last.prompt_eval_duration


def test_generate_and_its_context(client):
    first = client.generate("smollm2", "My name is Ada.", options=GREEDY)
    assert first.done and first.response
    assert len(first.context) == first.prompt_eval_count + first.eval_count - (first.done_reason == "stop")
    second = client.generate("smollm2", "What is my name?", context=first.context, options=GREEDY)
    assert second.context[:len(first.context)] == first.context


def test_generate_is_a_chat_of_one_message(client):
    chat = client.chat("smollm2", [{"role": "system", "content": "Be brief."}] + QUESTION, options=GREEDY)
    text = client.generate("smollm2", QUESTION[0]["content"], system="Be brief.", options=GREEDY)
    assert text.response == chat.message.content


def test_raw_is_a_completion(client, c):
    raw = client.generate("smollm2", "The capital of France is", raw=True, options=GREEDY)
    same = c.post("/v1/completions", json={"model": "smollm2", "prompt": "The capital of France is", "temperature": 0,
                                           "max_tokens": 12}).json()
    assert raw.response == same["choices"][0]["text"]
    with pytest.raises(ollama.ResponseError, match="raw mode") as e:
        client.generate("smollm2", "x", raw=True, system="y")
    assert e.value.status_code == 400


def test_seeded_text_is_that_of_openai(client, c):
    sampling = {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "seed": 7}
    mine = client.chat("smollm2", QUESTION, options={**sampling, "num_predict": 24})
    theirs = c.post("/v1/chat/completions", json={"model": "smollm2", "messages": QUESTION, "max_tokens": 24, **sampling})
    assert mine.message.content == theirs.json()["choices"][0]["message"]["content"]
    # The same settings are the defaults.
    assert client.chat("smollm2", QUESTION, options={"seed": 7, "num_predict": 24}).message.content == mine.message.content


def test_template_of_the_request(client, c):
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    mine = client.generate("smollm2", "The capital of France is", template=template, options=GREEDY)
    raw = client.generate("smollm2", "The capital of France is", raw=True, options=GREEDY)
    assert mine.response == raw.response


def test_stop_and_length(client):
    options = {"temperature": 0, "num_predict": 40}
    whole = client.generate("smollm2", "Count from one to ten.", options=options).response
    stop = whole[len(whole) // 2:][:3]
    cut = client.generate("smollm2", "Count from one to ten.", options={**options, "stop": [stop]})
    assert cut.done_reason == "stop" and cut.response == whole[:whole.index(stop)]
    assert client.generate("smollm2", "Count from one to ten.", options={**options, "num_predict": 3}).done_reason == "length"


def test_logprobs(c):
    body = {"model": "smollm2", "messages": QUESTION, "options": GREEDY, "logprobs": True, "top_logprobs": 2}
    whole = c.post("/api/chat", json={**body, "stream": False}).json()
    assert "".join(t["token"] for t in whole["logprobs"]) == whole["message"]["content"]
    for t in whole["logprobs"]:
        assert t["logprob"] <= 0 and bytes(t["bytes"]).decode() == t["token"]
        assert len(t["top_logprobs"]) == 2 and t["top_logprobs"][0]["token"] == t["token"]
    lines = [json.loads(x) for x in c.post("/api/chat", json=body).text.splitlines()]
    assert [t["token"] for x in lines for t in x.get("logprobs", [])] == [t["token"] for t in whole["logprobs"]]


def test_lines(c):
    with c.stream("POST", "/api/generate", json={"model": "smollm2", "prompt": "Hi", "options": GREEDY}) as r:
        assert r.status_code == 200 and r.headers["content-type"] == "application/x-ndjson"
        text = r.read().decode()
    assert text.endswith("}\n") and "\n\n" not in text
    lines = [json.loads(x) for x in text.splitlines()]
    for x in lines[:-1]:
        assert set(x) == {"model", "created_at", "response", "done"} and x["done"] is False
    assert set(lines[-1]) == {"model", "created_at", "response", "done", "done_reason", "context", "total_duration",
                              "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"}
    assert lines[-1]["created_at"].endswith("Z") and len(lines[-1]["created_at"]) == 30


def test_truncation_is_the_default(client, c):
    long = [{"role": "user", "content": "word " * 300}, {"role": "assistant", "content": "ok"}] * 8 + QUESTION
    options = {**GREEDY, "num_ctx": 512}
    cut = client.chat("smollm2", long, options=options)
    assert 0 < cut.prompt_eval_count <= 512 and cut.message.content
    r = c.post("/api/chat", json={"model": "smollm2", "messages": long, "options": options, "truncate": False})
    assert r.status_code == 400 and "context" in r.json()["error"]
    r = c.post("/api/chat", json={"model": "smollm2", "messages": [{"role": "user", "content": "word " * 600}],
                                  "options": options})
    assert r.status_code == 400, "the last message is never cut"


def test_embed(client, c):
    e = client.embed("minilm", ["The sea", "The ocean", "A screwdriver"])
    a, b, x = e.embeddings
    assert sum(v * v for v in a) == pytest.approx(1, abs=1e-4)
    assert sum(p * q for p, q in zip(a, b)) > sum(p * q for p, q in zip(a, x))
    assert e.prompt_eval_count > 0 and e.total_duration > 0
    assert client.embeddings("minilm", "The sea").embedding == pytest.approx(a, abs=1e-5)
    short = client.embed("minilm", "The sea", dimensions=64).embeddings[0]
    assert len(short) == 64 and sum(v * v for v in short) == pytest.approx(1, abs=1e-4)
    assert client.embed("minilm", "").embeddings == [] and client.embed("minilm", []).embeddings == []
    assert list(client.embeddings("minilm", "").embedding) == []
    theirs = c.post("/v1/embeddings", json={"model": "minilm", "input": "The sea"}).json()["data"][0]["embedding"]
    assert theirs == pytest.approx(a, abs=1e-6)
    long = client.embed("minilm", "word " * 2000)
    assert long.prompt_eval_count == 512
    with pytest.raises(ollama.ResponseError) as err:
        client.embed("minilm", "word " * 2000, truncate=False)
    assert err.value.status_code == 400


@pytest.mark.parametrize("path,field,value", [
    ("chat", "format", "json"), ("chat", "format", {"type": "object"}), ("chat", "tools", [{"type": "function"}]),
    ("chat", "think", True), ("chat", "think", "high"), ("generate", "suffix", "x"), ("generate", "images", ["aGk="]),
    ("generate", "think", True)])
def test_what_cannot_be_honoured_is_refused_by_name(c, path, field, value):
    r = c.post("/api/" + path, json={"model": "smollm2", "messages": QUESTION, "prompt": "x", field: value})
    assert r.status_code == 400 and list(r.json()) == ["error"] and field in r.json()["error"]
    neutral = {"format": "", "tools": [], "think": False, "suffix": "", "images": []}[field]
    r = c.post("/api/" + path, json={"model": "smollm2", "messages": QUESTION, "prompt": "x", field: neutral,
                                     "stream": False, "options": GREEDY})
    assert r.status_code == 200, r.text


def test_errors(c, client):
    for body, status, text in (
            ({"model": "nope", "messages": QUESTION}, 404, "model 'nope' not found"),
            ({"messages": QUESTION}, 400, "model"),
            ({"model": "minilm", "messages": QUESTION}, 400, "does not support chat"),
            ({"model": "smollm2", "messages": [{"role": "boss", "content": "x"}]}, 400, "role"),
            ({"model": "smollm2", "messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, 400, "images"),
            ({"model": "smollm2", "messages": QUESTION, "options": {"top_k": "many"}}, 400,
             'option "top_k" must be of type integer'),
            ({"model": "smollm2", "messages": QUESTION, "options": {"temperature": "hot"}}, 400,
             'option "temperature" must be of type float32'),
            ({"model": "smollm2", "messages": QUESTION, "keep_alive": "soon"}, 400, "keep_alive")):
        r = c.post("/api/chat", json=body)
        assert r.status_code == status and text in r.json()["error"], r.text
    r = c.post("/api/chat", content="{nope")
    assert r.status_code == 400 and "JSON" in r.json()["error"]
    with pytest.raises(ollama.ResponseError, match="not found"):
        client.show("nope")
    # As the original: options nobody knows do no harm.
    assert client.chat("smollm2", QUESTION, options={**GREEDY, "mirostat": 1, "nonsense": True}).message.content


def test_small_routes(c):
    assert c.get("/api/version").json()["version"]
    assert c.head("/").status_code == 200
    assert c.post("/api/push", json={"model": "smollm2"}).status_code == 501


def test_tags_and_show(client, c):
    models = {m.model: m for m in client.list().models}
    assert {"smollm2:latest", "minilm:latest"} <= set(models)
    m = models["smollm2:latest"]
    assert m.size > 90_000_000 and len(m.digest) == 64 and m.details.family == "llama"
    assert m.details.quantization_level == "Q4_1" and m.details.parameter_size == "134.52M"
    shown = client.show("smollm2")
    assert shown.capabilities == ["completion"] and shown.modelinfo["llama.context_length"] == 8192
    assert "<|im_start|>" in shown.template and "FROM smollm2" in shown.modelfile
    raw = c.post("/api/show", json={"model": "smollm2"}).json()
    assert raw["model_info"]["tokenizer.ggml.tokens"] is None and "tensors" not in raw
    raw = c.post("/api/show", json={"model": "smollm2", "verbose": True}).json()
    assert len(raw["model_info"]["tokenizer.ggml.tokens"]) == 49152 and len(raw["tensors"]) > 200
    assert client.show("minilm").capabilities == ["embedding"]
    assert client.show("minilm").modelinfo["bert.embedding_length"] == 384


# ---- coming and going ---------------------------------------------------------------------------


def test_load_and_unload(start):
    server = start("--model", "minilm")
    client = client_of(server)
    assert loaded(server) == ["minilm:latest"]
    assert {m.model for m in client.list().models} == {"minilm:latest", "smollm2:latest"}
    with server.client() as http:
        assert {m["id"] for m in http.get("/v1/models").json()["data"]} == {"minilm", "smollm2"}
    before = rss(server)
    assert client.generate("smollm2").done_reason == "load"
    assert client.chat("smollm2", QUESTION, options=GREEDY).load_duration == 0
    assert set(loaded(server)) == {"minilm:latest", "smollm2:latest"}
    high = rss(server)
    assert high > before + 80_000_000
    assert client.chat("smollm2", [], keep_alive=0).done_reason == "unload"
    assert loaded(server) == ["minilm:latest"]
    wait_for(lambda: rss(server) < before + (high - before) / 4)
    # Unloading what is not loaded loads nothing.
    assert client.generate("smollm2", keep_alive=0).done_reason == "unload"
    assert loaded(server) == ["minilm:latest"]
    # A configured model goes when it is told to, and comes back to stay.
    client.embed("minilm", [], keep_alive=0)
    assert loaded(server) == []
    again = client.embed("minilm", "x")
    assert again.load_duration > 0
    assert client.ps().models[0].expires_at.year > 2100


def test_keep_alive(start):
    server = start("--model", "minilm", SLUICE_LOADING_KEEP_ALIVE="90s")
    client = client_of(server)
    client.chat("smollm2", QUESTION, options=GREEDY, keep_alive=-1)
    assert {m.model: m.expires_at.year > 2100 for m in client.ps().models}["smollm2:latest"]
    client.chat("smollm2", QUESTION, options=GREEDY, keep_alive="10m")
    left = {m.model: m for m in client.ps().models}["smollm2:latest"].expires_at.timestamp() - time.time()
    assert 500 < left <= 600
    client.chat("smollm2", QUESTION, options=GREEDY)
    left = {m.model: m for m in client.ps().models}["smollm2:latest"].expires_at.timestamp() - time.time()
    assert 500 < left <= 600, "what was asked for holds until it is unloaded"
    # With the answer itself: at its end the model goes.
    parts = list(client.chat("smollm2", QUESTION, options=GREEDY, keep_alive=0, stream=True))
    assert parts[-1].done and loaded(server) == ["minilm:latest"]
    client.chat("smollm2", QUESTION, options=GREEDY)
    left = {m.model: m for m in client.ps().models}["smollm2:latest"].expires_at.timestamp() - time.time()
    assert 80 < left <= 90, "the default again"
    client.generate("smollm2", keep_alive="200ms")
    wait_for(lambda: loaded(server) == ["minilm:latest"])


ONE_MODEL = {"SLUICE_LOADING_MEMORY": "180MiB"}  # smollm2 takes 158 MiB with its 64 MiB of KV, minilm 41, 87 while it is loaded


@pytest.fixture
def one_model(start, tmp_path):
    config = tmp_path / "one.yaml"
    config.write_text("models: []\n")
    # Of the defaults the first is loaded, then the second takes its place.
    return start("--config", str(config), **ONE_MODEL)


def test_least_recently_used_goes_first(one_model):
    client = client_of(one_model)
    client.chat("smollm2", QUESTION, options=GREEDY)
    assert loaded(one_model) == ["smollm2:latest"]
    client.embed("minilm", "x")
    assert loaded(one_model) == ["minilm:latest"]
    answer = client.chat("smollm2", QUESTION, options=GREEDY)
    assert answer.message.content and answer.load_duration > 0
    assert loaded(one_model) == ["smollm2:latest"]


def test_never_one_that_is_serving(one_model):
    client = client_of(one_model)
    client.generate("smollm2")
    options = {"temperature": 0, "num_predict": 300, "seed": 1}
    prompt = "Write a long story about a river and its people."
    with one_model.client(timeout=120) as http, concurrent.futures.ThreadPoolExecutor(4) as pool:
        whole = http.post("/v1/chat/completions", json={"model": "smollm2", "messages": [{"role": "user", "content": prompt}],
                                                        "temperature": 0, "max_tokens": 300}).json()
        stream = client.generate("smollm2", prompt, options=options, stream=True)
        parts = [next(stream)]
        other = pool.submit(client.embed, "minilm", "x")
        parts.append(next(stream))
        assert not other.done() and loaded(one_model) == ["smollm2:latest"]
        late = None
        for part in stream:
            parts.append(part)
            if len(parts) == 40:  # comes while the model is about to leave: it waits for its return
                late = pool.submit(client.chat, "smollm2", QUESTION, options=GREEDY)
        assert "".join(p.response for p in parts) == whole["choices"][0]["message"]["content"]
        assert len(other.result(60).embeddings) == 1
        assert late.result(60).message.content


def test_a_model_that_cannot_fit_is_refused(start):
    server = start("--model", "minilm", **ONE_MODEL)
    client = client_of(server)
    with pytest.raises(ollama.ResponseError, match="loading.memory") as e:
        client.chat("smollm2", QUESTION)
    assert e.value.status_code == 503
    assert loaded(server) == ["minilm:latest"], "what is configured stays"
    with server.client() as http:
        r = http.post("/v1/chat/completions", json={"model": "smollm2", "messages": QUESTION})
        assert r.status_code == 503 and r.json()["error"]["code"] == "engine_overloaded"
    assert len(client.embed("minilm", "x").embeddings) == 1


def test_many_wait_for_one_load(start):
    server = start("--model", "minilm")
    client = client_of(server)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: client.chat("smollm2", QUESTION, options=GREEDY), range(12)))
    assert len({a.message.content for a in answers}) == 1
    assert sum(a.load_duration > 0 for a in answers) > 0
    assert sum(r["event"] == "model.loaded" and r["model"] == "smollm2" for r in server.records) == 1


def test_clients_that_leave_while_a_model_loads(start):
    server = start("--model", "minilm")
    with server.client() as http:
        body = json.dumps({"model": "smollm2", "messages": QUESTION, "stream": False,
                           "options": {"num_predict": 4000, "temperature": 1.5}}).encode()
        head = b"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        address = ("127.0.0.1", int(server.base.rsplit(":", 1)[1]))
        clients = [socket.create_connection(address) for _ in range(4)]
        for s in clients:
            s.sendall(head % len(body) + body)
        wait_for(lambda: "sluice_http_requests_in_flight 5" in http.get("/metrics").text)
        for s in clients:
            s.close()
        wait_for(lambda: sum(r.get("client") == "gone" for r in server.records) == 4)
        wait_for(lambda: "smollm2:latest" in loaded(server))
        metrics = http.get("/metrics").text
        for state in ("running", "waiting"):
            counts = re.findall(rf"^sluice_num_requests_{state}{{.*}} (\S+)$", metrics, re.M)
            assert counts and set(counts) == {"0"}
    assert client_of(server).chat("smollm2", QUESTION, options=GREEDY).message.content


def test_stop_while_requests_wait(start):
    server = start("--model", "minilm", SLUICE_SERVER_DRAIN_SECONDS="1")
    got = []

    def ask():
        try:
            got.append(client_of(server).chat("smollm2", QUESTION, options={"num_predict": 4000}).done)
        except Exception as e:  # noqa: BLE001
            got.append(type(e).__name__)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for t in threads:
        t.start()
    wait_for(lambda: server.client().get("/metrics").text.count("sluice_http_requests_in_flight 0") == 0)
    assert server.stop() == 0
    for t in threads:
        t.join(20)
    assert len(got) == 3


# ---- making models ------------------------------------------------------------------------------


def test_create_from_a_model(start):
    server = start("--model", "smollm2")
    client = client_of(server)
    r = client.create("guide", from_="smollm2", system="You answer in French.", license="MIT",
                      messages=[{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Bonjour"}],
                      parameters={"temperature": 0, "num_predict": 9, "stop": ["\n\n"], "seed": 3})
    assert r.status == "success"
    shown = client.show("guide")
    assert shown.modelfile and 'SYSTEM "You answer in French."' in shown.modelfile
    assert "num_predict" in shown.parameters and shown.license == "MIT" and shown.details.parent_model == "smollm2"
    explicit = [{"role": "system", "content": "You answer in French."}, {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Bonjour"}, *QUESTION]
    want = client.chat("smollm2", explicit, options={"temperature": 0, "num_predict": 9, "stop": ["\n\n"]})
    assert client.chat("guide", QUESTION).message.content == want.message.content
    with server.client(timeout=60) as http:  # the defaults hold in every dialect, where a request says nothing
        r = http.post("/v1/chat/completions", json={"model": "guide", "messages": QUESTION}).json()
        assert r["choices"][0]["message"]["content"] == want.message.content
        assert r["usage"]["completion_tokens"] == want.eval_count
        r = http.post("/v1/chat/completions", json={"model": "guide", "messages": QUESTION, "max_tokens": 4,
                                                    "temperature": 1.0, "seed": 5}).json()
        assert r["usage"]["completion_tokens"] == 4
        same = http.post("/v1/chat/completions", json={"model": "smollm2", "messages": explicit, "max_tokens": 4,
                                                       "temperature": 1.0, "seed": 5}).json()
        assert r["choices"][0]["message"]["content"] == same["choices"][0]["message"]["content"]
        text = http.post("/apply-template", json={"model": "guide", "messages": QUESTION}).json()["prompt"]
        assert "You answer in French." in text and "Bonjour" in text
    # From what was made: what it does not say, it has from there.
    client.create("guide2", from_="guide", system="Be brief.", stream=False)
    shown = client.show("guide2")
    assert "Be brief." in shown.modelfile and "num_predict" in shown.parameters
    with pytest.raises(ollama.ResponseError, match="nothing-here"):
        client.create("x", from_="nothing-here")
    for text, bad in (("temperature", {"parameters": {"temperature": "hot"}}), ("adapters", {"adapters": {"a": "sha256:0"}}),
                      ("quantize", {"quantize": "q4_K_M"}), ("TEMPLATE", {"template": "{{ if .System }}"})):
        with server.client() as http:
            r = http.post("/api/create", json={"model": "x", "from": "smollm2", "stream": False, **bad})
            assert r.status_code == 400 and text in r.json()["error"], r.text
    assert not any(m.model.startswith("x") for m in client.list().models)


def test_copy_and_delete(start):
    server = start("--model", "smollm2")
    client = client_of(server)
    client.copy("smollm2", "other:v1")
    assert "other:v1" in {m.model for m in client.list().models}
    assert client.chat("other:v1", QUESTION, options=GREEDY).message.content == \
        client.chat("smollm2", QUESTION, options=GREEDY).message.content
    assert client.delete("other:v1").status == "success"
    assert "other:v1" not in {m.model for m in client.list().models} | set(loaded(server))
    for call in (lambda: client.delete("other:v1"), lambda: client.copy("other:v1", "y"),
                 lambda: client.chat("other:v1", QUESTION)):
        with pytest.raises(ollama.ResponseError) as e:
            call()
        assert e.value.status_code == 404
    client.copy("smollm2", "other:v1")  # the name comes back
    assert client.chat("other:v1", QUESTION, options=GREEDY).message.content


def test_blobs(start, tmp_path):
    server = start("--model", "minilm")
    client = client_of(server)
    path = tmp_path / "tiny.gguf"
    mkmodel.write(str(path), "llama-Q8_0")
    body = path.read_bytes()
    digest = "sha256:" + hashlib.sha256(body).hexdigest()
    with server.client() as http:
        assert http.head("/api/blobs/" + digest).status_code == 404
        assert client.create_blob(str(path)) == digest
        assert http.head("/api/blobs/" + digest).status_code == 200
        r = http.post("/api/blobs/" + digest, content=body + b"x")
        assert r.status_code == 400 and "digest mismatch" in r.json()["error"]
        assert http.post("/api/blobs/sha256:00", content=b"").status_code == 400
        assert client.create("tiny", files={"tiny.gguf": digest}).status == "success"
        assert client.show("tiny").details.quantization_level == "Q8_0"
        assert client.generate("tiny", "x", raw=True, options={"num_predict": 2}).eval_count == 2
        # What is no model does not become one.
        junk = "sha256:" + hashlib.sha256(b"junk").hexdigest()
        assert http.post("/api/blobs/" + junk, content=b"junk").status_code == 201
        with pytest.raises(ollama.ResponseError):
            client.create("junk", files={"junk.gguf": junk})
    assert glob.glob(os.path.join(os.environ["SLUICE_DATA"], "models", "partial", "*")) == []


def test_commands(start, tmp_path):
    server = start("--model", "minilm")
    client = client_of(server)
    modelfile = tmp_path / "Modelfile"
    modelfile.write_text('# mine\nfrom smollm2\nPARAMETER temperature 0\nPARAMETER num_predict 6\n'
                         'PARAMETER stop "END"\nSYSTEM """You are\na guide."""\nMESSAGE user Hi\nMESSAGE assistant Hello\n')
    sluice("create", "mine", "-f", str(modelfile))
    wait_for(lambda: "mine:latest" in {m.model for m in client.list().models})
    assert client.chat("mine", QUESTION).eval_count <= 6
    assert "You are\na guide." in client.show("mine").modelfile
    sluice("cp", "mine", "mine2")
    wait_for(lambda: "mine2:latest" in {m.model for m in client.list().models})
    shown = json.loads(sluice("ps", "--url", server.base, "--json").stdout)
    assert {m["name"] for m in shown} == {"minilm:latest", "mine:latest"}
    assert b"mine:latest" in sluice("ps", "--url", server.base).stdout
    path = tmp_path / "tiny.gguf"
    mkmodel.write(str(path), "llama-Q8_0")
    modelfile.write_text("FROM ./tiny.gguf\nPARAMETER num_predict 3\n")
    sluice("create", "tiny", "-f", str(modelfile))
    wait_for(lambda: "tiny:latest" in {m.model for m in client.list().models})
    sluice("rm", "mine2", "mine")
    wait_for(lambda: "mine:latest" not in {m.model for m in client.list().models} | set(loaded(server)))
    for text, line in (("FROM a\nADAPTER x\n", b"line 2"), ("PARAMETER nope 1\nFROM a", b"nope"), ("SYSTEM x", b"FROM"),
                       ("FROM a\nSYSTEM \"\"\"x", b"closing")):
        modelfile.write_text(text)
        r = sluice("create", "bad", "-f", str(modelfile), check=False)
        assert r.returncode != 0 and line in r.stderr, r.stderr
    assert sluice("ps", "--url", "http://127.0.0.1:9", check=False).returncode == 1


def test_pull(start, tmp_path):
    import test_pull

    path = str(tmp_path / "m.gguf")
    mkmodel.write(path, "llama-Q4_0")
    with open(path, "rb") as f:
        test_pull.Hub.files = {"Model-Q4_0.gguf": f.read()}
    test_pull.Hub.cut, test_pull.Hub.ranges, test_pull.Hub.private = {}, [], False
    hub = test_pull.http.server.ThreadingHTTPServer(("127.0.0.1", 0), test_pull.Hub)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    server = start("--model", "minilm", HF_ENDPOINT=f"http://127.0.0.1:{hub.server_port}", no_proxy="*")
    client = client_of(server)
    parts = list(client.pull("hf.co/me/repo:Q4_0", insecure=True, stream=True))
    assert parts[0].status == "pulling manifest" and parts[-1].status == "success"
    assert any(p.total and p.completed for p in parts)
    name = "hf.co/me/repo:Q4_0"  # as the client goes on calling it
    assert name in {m.model for m in client.list().models}
    assert client.generate(name, "x", raw=True, options={"num_predict": 2}).eval_count == 2
    assert client.pull(name).status == "success"
    assert client.show(name).details.quantization_level == "Q4_0" and name in {m.model for m in client.ps().models}
    with server.client() as http:
        body = {"model": name, "prompt": "x", "max_tokens": 2}
        assert http.post("/v1/completions", json=body).json()["model"] == name
        assert http.get(f"/v1/models/{name}").json()["id"] == name
    client.copy(name, "me/mine:v1")
    client.create("me/tuned", from_="me/mine:v1", parameters={"num_predict": 3})
    assert client.generate("me/tuned", "x", raw=True).eval_count == 3
    modelfile = tmp_path / "Modelfile"
    modelfile.write_text("FROM me/mine:v1\nPARAMETER num_predict 1\n")
    sluice("create", "me/brief", "-f", str(modelfile))
    wait_for(lambda: "me/brief:latest" in {m.model for m in client.list().models})
    assert client.generate("me/brief", "x", raw=True).eval_count == 1
    client.delete(name)
    assert client.generate("me/mine:v1", "x", raw=True, options={"num_predict": 2}).eval_count == 2
    client.delete("me/mine:v1")
    assert not {name, "me/mine:v1"} & {m.model for m in client.list().models}
    with pytest.raises(ollama.ResponseError):
        client.pull("no-such-model")
    for bad in ("/etc/passwd", "../x", "http://127.0.0.1/x.gguf"):
        with server.client() as http:
            r = http.post("/api/pull", json={"model": bad, "stream": False})
            assert r.status_code in (400, 404) and "error" in r.json(), r.text
    with server.client() as http:
        text = http.post("/api/pull", json={"model": "hf.co/me/gone"}).text.splitlines()
        assert "error" in json.loads(text[-1])
    hub.shutdown()


# ---- the scripted server ------------------------------------------------------------------------


def test_an_error_in_a_stream_is_a_line(fake):
    with fake.client() as http:
        r = http.post("/api/chat", json={"model": "fake", "messages": [{"role": "user", "content": "error"}]})
        assert r.status_code == 200
        lines = [json.loads(x) for x in r.text.splitlines()]
        assert lines[0]["message"]["content"] and lines[-1] == {"error": "the engine failed"}
        r = http.post("/api/chat", json={"model": "fake", "messages": [{"role": "user", "content": "early"}]})
        assert r.status_code == 400 and "context" in r.json()["error"]
        r = http.post("/api/generate", json={"model": "fake", "prompt": "busy"})
        assert r.status_code == 503 and r.json()["error"].startswith("server busy") and "Retry-After" in r.headers
        assert http.get("/api/tags").status_code == 501


def test_a_client_that_leaves(fake):
    assert isinstance(fake, Server)
    with fake.client() as http:
        before = http.get("/debug").json()["cancelled"]
        with http.stream("POST", "/api/generate", json={"model": "fake", "prompt": "slow"}) as r:
            next(r.iter_lines())
        wait_for(lambda: http.get("/debug").json()["cancelled"] == before + 1)


def test_keys(fake_factory):
    server = fake_factory("secret")
    with server.client() as http:
        r = http.post("/api/chat", json={"model": "fake", "messages": []})
        assert r.status_code == 401 and isinstance(r.json()["error"], str)
        assert http.post("/api/blobs/sha256:" + "0" * 64, content=b"x" * 100000).status_code == 401
        assert http.get("/api/version").status_code == 200
    assert ollama.Client(host=server.base, headers={"Authorization": "Bearer secret"}, trust_env=False).generate(
        "fake", "hi").response
