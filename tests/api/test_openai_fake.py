"""The OpenAI dialect over a scripted model, through the official client and raw HTTP."""
import json
import math
import signal
import threading
import time

import httpx
import openai
import pytest


def client_of(server, key="any"):
    return openai.OpenAI(base_url=server.base + "/v1", api_key=key, max_retries=0,
                         http_client=httpx.Client(trust_env=False))


def say(text, **kw):
    return dict(model="fake", messages=[{"role": "user", "content": text}], **kw)


def wait_until(check, seconds=5):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.002)


@pytest.fixture(scope="module")
def ai(fake):
    return client_of(fake)


def debug(server):
    with server.client() as c:
        return c.get("/debug").json()


def test_chat(ai):
    r = ai.chat.completions.create(**say("hi"))
    assert r.id.startswith("chatcmpl-") and r.object == "chat.completion"
    assert r.choices[0].message.content == "w0 w1 w2 w3 w4 "
    assert r.choices[0].message.role == "assistant"
    assert r.choices[0].finish_reason == "stop" and r.choices[0].logprobs is None
    assert (r.usage.prompt_tokens, r.usage.completion_tokens, r.usage.total_tokens) == (7, 5, 12)
    assert r.usage.prompt_tokens_details.cached_tokens == 3
    assert r._request_id.startswith("req_")


def test_length_and_n(ai):
    r = ai.chat.completions.create(**say("hi", max_tokens=9, max_completion_tokens=2, n=3))
    assert [c.index for c in r.choices] == [0, 1, 2]
    assert all(c.message.content == "w0 w1 " and c.finish_reason == "length" for c in r.choices)


def test_stream(fake, ai):
    with fake.client() as c, c.stream("POST", "/v1/chat/completions",
                                      json=say("hi", stream=True)) as r:
        assert r.headers["content-type"].startswith("text/event-stream")
        assert r.headers["x-request-id"]
        lines = [x for x in r.iter_lines() if x]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(x[6:]) for x in lines[:-1]]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-1]["choices"][0]["delta"] == {}
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert all("usage" not in x for x in chunks)
    assert len({x["id"] for x in chunks}) == 1
    text = "".join(x.choices[0].delta.content or "" for x in
                   ai.chat.completions.create(**say("hi", stream=True)))
    assert text == "w0 w1 w2 w3 w4 "


def test_include_usage(ai):
    chunks = list(ai.chat.completions.create(
        **say("hi", stream=True, stream_options={"include_usage": True})))
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 12
    assert all(c.usage is None and "usage" in c.model_fields_set for c in chunks[:-1])


def test_logprobs(ai):
    r = ai.chat.completions.create(**say("hi", logprobs=True, top_logprobs=2, max_tokens=1))
    item = r.choices[0].logprobs.content[0]
    assert item.token == "w0 " and item.bytes == [119, 48, 32] and item.logprob == -0.5
    assert item.top_logprobs[1].bytes == [0xE2, 0x82]
    r = ai.completions.create(model="fake", prompt="x", logprobs=1, max_tokens=2)
    lp = r.choices[0].logprobs
    assert lp.tokens == ["w0 ", "w1 "] and lp.text_offset == [0, 3]
    assert lp.top_logprobs[0] == {"w0 ": -0.5}
    s = list(ai.completions.create(model="fake", prompt="x", logprobs=1, max_tokens=2, stream=True))
    assert s[1].choices[0].logprobs.text_offset == [3]


def test_completions(ai):
    r = ai.completions.create(model="fake", prompt=["a", "b"], n=2, max_tokens=1)
    assert r.object == "text_completion" and r.id.startswith("cmpl-")
    assert [c.index for c in r.choices] == [0, 1, 2, 3]
    assert ai.completions.create(model="fake", prompt=[1, 2], max_tokens=1).choices[0].text == "w0 "
    text = "".join(c.choices[0].text for c in
                   ai.completions.create(model="fake", prompt="a", max_tokens=3, stream=True))
    assert text == "w0 w1 w2 "


def test_embeddings(ai):
    sdk = ai.embeddings.create(model="fake-embed", input=["a", "bb"])  # base64 underneath
    raw = ai.embeddings.create(model="fake-embed", input=["a", "bb"], encoding_format="float")
    assert [d.index for d in sdk.data] == [0, 1]
    for a, b in zip(sdk.data, raw.data):
        assert a.embedding == pytest.approx(b.embedding)
    cut = ai.embeddings.create(model="fake-embed", input="a", dimensions=3).data[0].embedding
    assert len(cut) == 3 and math.isclose(sum(x * x for x in cut), 1, rel_tol=1e-6)
    with pytest.raises(openai.BadRequestError) as e:
        ai.embeddings.create(model="fake-embed", input="a", dimensions=9)
    assert e.value.param == "dimensions"


def test_models(ai):
    assert [m.id for m in ai.models.list()] == ["fake", "fake-embed", "fake-rerank"]
    assert ai.models.retrieve("fake").object == "model"
    with pytest.raises(openai.NotFoundError) as e:
        ai.models.retrieve("org/nothing")
    assert e.value.code == "model_not_found"


def part(**kw):
    return [{"role": "user", "content": [kw]}]


@pytest.mark.parametrize("change,param", [
    ({"messages": []}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": part(type="image_url", image_url={"url": "x"})}, "messages[0].content[0]"),
    ({"temperature": 3}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": -0.1}, "top_p"),
    ({"n": 0}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
    ({"stop": ["a"] * 17}, "stop"),
    ({"stop": [1]}, "stop[0]"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"logit_bias": {"1": 101}}, "logit_bias"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"audio": {"voice": "x"}}, "audio"),
    ({"model": 5}, "model"),
])
def test_refusals(fake, change, param):
    body = {**say("hi"), **change}
    with fake.client() as c:
        r = c.post("/v1/chat/completions", json=body)
    assert r.status_code == 400, r.text
    error = r.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param and error["type"] == "invalid_request_error"


@pytest.mark.parametrize("change", [
    {"unknown": 1}, {"temperature": None}, {"stop": "x"}, {"stop": None}, {"seed": -5},
    {"tools": [{"type": "function"}], "tool_choice": "none"}, {"top_k": -1, "min_p": 0.1},
    {"response_format": {"type": "text"}}, {"logit_bias": {"5": -100}}, {"user": "me"},
    {"messages": part(type="text", text="hi")}, {"model": "gpt-4o"}, {"model": None},
    {"messages": [{"role": "developer", "content": "x"}, {"role": "user", "content": "hi"}]},
])
def test_accepted(fake, change):
    with fake.client() as c:
        r = c.post("/v1/chat/completions", json={**say("hi"), **change})
    assert r.status_code == 200, r.text


def test_bad_json(fake):
    with fake.client() as c:
        r = c.post("/v1/chat/completions", content=b'{"messages": [}')
        assert r.status_code == 400 and "line 1" in r.json()["error"]["message"]
        assert c.post("/v1/chat/completions", content=b"[]").status_code == 400
        assert c.post("/v1/chat/completions", content=b"").status_code == 400
        assert c.post("/v1/chat/completions", content=b" " * (2 << 20)).status_code == 413


def test_error_classes(ai):
    with pytest.raises(openai.NotFoundError) as e:
        ai.chat.completions.create(**{**say("hi"), "model": "nope"})
    assert e.value.code == "model_not_found"
    for script in ("context", "early"):
        with pytest.raises(openai.BadRequestError) as e:
            ai.chat.completions.create(**say(script))
        assert e.value.code == "context_length_exceeded" and "4096" in e.value.message
    with pytest.raises(openai.BadRequestError):  # before the first chunk: a real status
        ai.chat.completions.create(**say("early", stream=True))
    with pytest.raises(openai.InternalServerError):
        ai.chat.completions.create(**say("error"))
    with pytest.raises(openai.InternalServerError) as e:
        ai.chat.completions.create(**say("busy"))
    assert e.value.status_code == 503
    assert e.value.response.headers["retry-after"] == "1"
    assert e.value.response.headers["retry-after-ms"] == "1000"


def test_error_in_stream(fake, ai):
    with pytest.raises(openai.APIError, match="the engine failed"):
        list(ai.chat.completions.create(**say("error", stream=True)))
    with fake.client() as c:
        lines = c.post("/v1/chat/completions", json=say("error", stream=True)).text.split("\n\n")
    assert "error" in json.loads(lines[-3][6:]) and lines[-2] == "data: [DONE]"


@pytest.mark.parametrize("script,stream", [("slow", True), ("slow", False), ("hang", True),
                                           ("hang", False)])
def test_cancel(fake, script, stream):
    before = debug(fake)["cancelled"]
    c = fake.client(timeout=0.15)
    with pytest.raises(httpx.ReadTimeout):
        with c.stream("POST", "/v1/chat/completions", json=say(script, stream=stream)) as r:
            if script == "slow" and stream:
                assert next(r.iter_lines())
                raise httpx.ReadTimeout("we have seen enough")
            r.read()
    start = time.monotonic()
    c.close()
    wait_until(lambda: debug(fake)["cancelled"] > before)
    assert time.monotonic() - start < 1
    wait_until(lambda: debug(fake)["running"] == 0)


def test_many_streams(fake):
    texts, errors = [], []

    def one():
        try:
            with fake.client() as c:
                texts.append(c.post("/v1/chat/completions", json=say("slow", stream=True,
                                                                     max_tokens=20)).text)
        except Exception as e:  # noqa: BLE001 - reported below
            errors.append(e)

    threads = [threading.Thread(target=one) for _ in range(32)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not errors and len(texts) == 32
    assert all(t.count('"content":"w') == 20 and t.endswith("[DONE]\n\n") for t in texts)


def test_operator_routes(fake):
    with fake.client() as c:
        assert c.get("/health").json() == {"status": "ok"}
        assert c.get("/ready").status_code == 200
        assert "curl" in c.get("/").text
        assert c.get("/version").json()["version"]
        c.post("/v1/chat/completions", json=say("hi"))
        r = c.get("/metrics")
        assert r.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        route = 'route="/v1/chat/completions"'
        assert f'sluice_tokens_total{{model_name="fake",{route},bucket="output"}}' in r.text
        assert f'sluice_time_to_first_token_seconds_bucket{{model_name="fake",{route},le="+Inf"}}' in r.text
        assert f'sluice_http_requests_total{{{route},method="POST",status="200"}}' in r.text
        assert '\nsluice_num_requests_running{model_name="fake"} ' in r.text
        assert c.get("/v1/nothing").json()["error"]["code"] == "unknown_url"
        assert c.get("/v1/chat/completions").status_code == 405
        assert c.get("/health", headers={"x-request-id": "abc"}).headers["x-request-id"] == "abc"


def test_keys(fake_factory):
    server = fake_factory("secret-key")
    assert client_of(server, "secret-key").chat.completions.create(**say("hi")).choices
    with pytest.raises(openai.AuthenticationError) as e:
        client_of(server, "wrong").chat.completions.create(**say("hi"))
    assert e.value.code == "invalid_api_key"
    with server.client() as c:
        r = c.get("/v1/models")
        assert r.status_code == 401 and r.json()["error"]["code"] is None
        assert r.headers["www-authenticate"] == "Bearer"
        assert c.get("/metrics").status_code == 401
        assert c.get("/health").status_code == 200 and c.get("/ready").status_code == 200
        assert c.get("/metrics", headers={"x-api-key": "secret-key"}).status_code == 200


def test_drain(fake_factory):
    server = fake_factory()
    with server.client() as c, c.stream("POST", "/v1/chat/completions",
                                        json=say("slow", stream=True, max_tokens=60)) as r:
        lines = r.iter_lines()
        next(lines)
        server.process.send_signal(signal.SIGTERM)
        rest = [x for x in lines if x]
    assert rest[-1] == "data: [DONE]"
    assert server.stop() == 0


def test_drain_deadline(fake_factory):
    server = fake_factory()
    with server.client() as c, pytest.raises(httpx.HTTPError):
        with c.stream("POST", "/v1/chat/completions", json=say("slow", stream=True)) as r:
            lines = r.iter_lines()
            next(lines)
            server.process.send_signal(signal.SIGTERM)
            list(lines)
    assert server.stop() == 0


def test_rag(fake):
    with fake.client() as c:
        r = c.post("/v1/rag/documents", json={"name": "a.md", "text": "hello"})
        assert r.status_code == 200 and r.json()["chunks"] == 1 and r.json()["name"] == "a.md"
        r = c.post("/v1/rag/documents", files=[("file", ("x.txt", b"one")),
                                               ("file", ("y.txt", b"two"))])
        assert [d["name"] for d in r.json()["data"]] == ["x.txt", "y.txt"]
        r = c.post("/v1/rag/documents?name=z.md", content=b"# z",
                   headers={"content-type": "text/markdown"})
        assert r.json()["bytes"] == 3
        assert c.post("/v1/rag/documents?name=b", content=b"\xff\xfe").status_code == 400
        assert c.post("/v1/rag/documents", json={"name": "a"}).json()["error"]["param"] == "text"
        assert c.get("/v1/rag/documents").json()["data"][0]["name"] == "a.md"
        assert c.delete("/v1/rag/documents/a/b.md").json()["name"] == "a/b.md"
        assert c.delete("/v1/rag/documents/none").status_code == 404
        r = c.post("/v1/rag/query", json={"question": "so?"}).json()
        assert r["object"] == "rag.answer" and r["answer"] == "It is so [1]."
        assert r["citations"][0]["number"] == 1 and r["citations"][0]["end"] == 10
        assert r["usage"]["total_tokens"] == 23 and r["model"] == "fake"
        assert c.post("/v1/rag/query", json={}).json()["error"]["param"] == "question"
        assert c.post("/v1/rag/query", json={"question": "nothing"}).status_code == 404
        text = c.post("/v1/rag/query", json={"question": "so?", "stream": True}).text
        events = [x.split("\n")[0] for x in text.strip().split("\n\n")]
        assert events == ["event: retrieval", "event: delta", "event: citation", "event: done"]


def test_rag_cancel(fake):
    before = debug(fake)["cancelled"]
    c = fake.client(timeout=0.15)
    with c.stream("POST", "/v1/rag/query", json={"question": "slow", "stream": True}) as r:
        next(r.iter_lines())
    c.close()
    wait_until(lambda: debug(fake)["cancelled"] > before)
