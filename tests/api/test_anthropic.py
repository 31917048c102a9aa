"""Anthropic's dialect through its official client: over a scripted model, and of the real binary."""
import asyncio
import json

import anthropic
import httpx
import httpx2
import openai
import pytest


def client_of(server, key="any", **kw):
    return anthropic.Anthropic(base_url=server.base, api_key=key, max_retries=0,
                               http_client=httpx2.Client(trust_env=False, timeout=300), **kw)


def say(text, **kw):
    return {"model": "fake", "max_tokens": 5, "messages": [{"role": "user", "content": text}], **kw}


@pytest.fixture(scope="module")
def ai(fake):
    return client_of(fake)


@pytest.fixture
def c(fake):
    with fake.client() as client:
        yield client


def post(c, body, path="/v1/messages", **headers):
    return c.post(path, json=body, headers={"anthropic-version": "2023-06-01", **headers})


def events(response):
    """(event, data) pairs of a stream; comments are left out."""
    name = None
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            data = json.loads(line[6:])
            assert data["type"] == name
            yield name, data


# ---- over a scripted model ----------------------------------------------------------------------

def test_message(ai):
    m = ai.messages.create(**say("hi"))
    assert m.id.startswith("msg_") and m.type == "message" and m.role == "assistant"
    assert m.model == "fake" and m.content[0].text == "w0 w1 w2 w3 w4 "
    assert m.stop_reason == "max_tokens" and m.stop_sequence is None
    assert m._request_id.startswith("req_")


def test_usage_buckets_are_disjoint(ai):
    u = ai.messages.create(**say("hi")).usage
    assert (u.input_tokens, u.cache_read_input_tokens, u.cache_creation_input_tokens) == (4, 3, 0)
    assert u.output_tokens == 5 and u.service_tier == "standard"
    assert u.cache_creation.ephemeral_5m_input_tokens == 0


def test_stop_sequence(ai):
    m = ai.messages.create(**say("stop", stop_sequences=["END"]))
    assert m.stop_reason == "stop_sequence" and m.stop_sequence == "END"
    with ai.messages.stream(**say("stop", stop_sequences=["END"])) as s:
        final = s.get_final_message()
    assert final.stop_reason == "stop_sequence" and final.stop_sequence == "END"


def test_stream_helper(ai):
    with ai.messages.stream(**say("hi")) as s:
        text = "".join(s.text_stream)
        final = s.get_final_message()
    assert text == "w0 w1 w2 w3 w4 " == final.content[0].text
    assert final.usage.output_tokens == 5 and final.stop_reason == "max_tokens"


def test_stream_events(c):
    with c.stream("POST", "/v1/messages", json=say("hi", stream=True, max_tokens=2)) as r:
        assert r.status_code == 200 and r.headers["content-type"].startswith("text/event-stream")
        assert r.headers["request-id"] == r.headers["x-request-id"]
        seen = list(events(r))
    assert [name for name, _ in seen] == [
        "message_start", "ping", "content_block_start", "content_block_delta",
        "content_block_delta", "content_block_stop", "message_delta", "message_stop"]
    start, delta = seen[0][1]["message"], seen[6][1]
    assert start["content"] == [] and start["stop_reason"] is None
    assert seen[2][1]["content_block"] == {"type": "text", "text": ""}
    assert delta["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert delta["usage"]["output_tokens"] == 2 and delta["usage"]["input_tokens"] == 4


def test_no_text_no_block(c):
    assert post(c, say("hi", max_tokens=0)).json()["content"] == []
    with c.stream("POST", "/v1/messages", json=say("hi", stream=True, max_tokens=0)) as r:
        assert [n for n, _ in events(r)] == ["message_start", "ping", "message_delta",
                                             "message_stop"]


def test_async(fake):
    async def run():
        async with anthropic.AsyncAnthropic(
                base_url=fake.base, api_key="any", max_retries=0,
                http_client=httpx2.AsyncClient(trust_env=False)) as ai:
            m = await ai.messages.create(**say("hi"))
            async with ai.messages.stream(**say("hi")) as s:
                text = "".join([t async for t in s.text_stream])
            n = await ai.messages.count_tokens(model="fake", messages=say("hi")["messages"])
            return m.content[0].text, text, n.input_tokens
    text, streamed, count = asyncio.run(run())
    assert text == streamed == "w0 w1 w2 w3 w4 " and count == len("_user:hi;assistant:")


def test_count_tokens(ai, c):
    n = ai.messages.count_tokens(model="fake", system="be", messages=say("hi")["messages"])
    assert n.input_tokens == len("_system:be;user:hi;assistant:")
    prefill = say("hi")["messages"] + [{"role": "assistant", "content": "So"}]
    n = ai.messages.count_tokens(model="fake", messages=prefill)
    assert n.input_tokens == len("_user:hi;assistant:So")
    r = post(c, say("hi"), "/v1/messages/count_tokens")
    assert r.status_code == 400 and "max_tokens: Extra inputs" in r.json()["error"]["message"]
    r = post(c, {"model": "none", "messages": say("hi")["messages"]}, "/v1/messages/count_tokens")
    assert r.status_code == 404


def test_errors(ai, c):
    with pytest.raises(anthropic.BadRequestError) as e:
        ai.messages.create(**say("hi"), extra_body={"temperature": 2})
    assert e.value.body["type"] == "error" and e.value.body["request_id"] == e.value.request_id
    assert e.value.body["error"]["type"] == "invalid_request_error"
    with pytest.raises(anthropic.NotFoundError) as e:
        ai.messages.create(**{**say("hi"), "model": "none"})
    assert e.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.InternalServerError) as e:
        ai.messages.create(**say("busy"))
    assert e.value.status_code == 529 and e.value.body["error"]["type"] == "overloaded_error"
    assert e.value.response.headers["retry-after"]
    r = post(c, say("context"))
    assert r.status_code == 400 and "prompt is too long" in r.json()["error"]["message"]
    r = c.post("/v1/messages", content=b"{")
    assert r.status_code == 400 and r.json()["type"] == "error"
    r = post(c, say("error"))
    assert r.status_code == 500 and r.json()["error"]["type"] == "api_error"
    r = post(c, say("hi", max_tokens=None))
    assert r.json()["error"]["message"] == "max_tokens: Field required"
    r = post(c, say("hi", extra=1))
    assert r.json()["error"]["message"] == "extra: Extra inputs are not permitted"


@pytest.mark.parametrize("field,value", [
    ("tools", [{"name": "f", "input_schema": {"type": "object"}}]),
    ("tool_choice", {"type": "any"}),
    ("thinking", {"type": "enabled", "budget_tokens": 2048}),
    ("output_config", {"effort": "high"}),
])
def test_refused_by_name(c, field, value):
    r = post(c, say("hi", **{field: value}))
    assert r.status_code == 400 and field in r.json()["error"]["message"]


def test_images_are_refused(ai):
    block = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "x"}}
    with pytest.raises(anthropic.BadRequestError, match="image"):
        ai.messages.create(**say([block]))


def test_error_in_stream(ai, c):
    with pytest.raises(anthropic.APIStatusError) as e:
        with ai.messages.stream(**say("error")) as s:
            for _ in s:
                pass
    assert "the engine failed" in str(e.value)
    with c.stream("POST", "/v1/messages", json=say("error", stream=True)) as r:
        seen = list(events(r))
        assert seen[-1][0] == "error" and seen[-1][1]["error"]["type"] == "api_error"
        assert seen[-1][1]["request_id"] == r.headers["request-id"]
    r = post(c, say("early", stream=True))
    assert r.status_code == 400 and r.json()["error"]["type"] == "invalid_request_error"


def test_keys(fake_factory):
    server = fake_factory("sk-good")
    assert client_of(server, "sk-good").messages.create(**say("hi")).content
    bearer = anthropic.Anthropic(base_url=server.base, api_key=None, auth_token="sk-good",
                                 http_client=httpx2.Client(trust_env=False))
    assert bearer.messages.create(**say("hi")).content
    with pytest.raises(anthropic.AuthenticationError) as e:
        client_of(server, "sk-bad").messages.create(**say("hi"))
    assert e.value.body["error"]["type"] == "authentication_error" and e.value.request_id
    with pytest.raises(anthropic.AuthenticationError) as e:
        client_of(server, "sk-bad").models.list()
    assert e.value.body["type"] == "error"


def test_version(c):
    assert c.post("/v1/messages", json=say("hi")).status_code == 200
    for good in ("2023-06-01", "2023-01-01", "2026-10-21"):
        assert post(c, say("hi"), **{"anthropic-version": good}).status_code == 200
    r = post(c, say("hi"), **{"anthropic-version": "latest"})
    assert r.status_code == 400 and "anthropic-version" in r.json()["error"]["message"]


def test_refusals_before_the_handler(c):
    r = post(c, {}, "/v1/messages/batches")
    assert r.status_code == 404 and r.json()["error"]["type"] == "not_found_error"
    assert r.json()["request_id"] == r.headers["request-id"]
    r = c.get("/v1/messages")
    assert r.status_code == 405 and r.json()["type"] == "error"
    r = c.post("/v1/messages", content=b" " * (2 << 20))
    assert r.status_code == 413 and r.json()["error"]["type"] == "request_too_large"
    r = c.get("/nowhere")
    assert r.status_code == 404 and r.json()["error"]["code"] == "unknown_url"


def test_models(ai, c):
    assert [m.id for m in ai.models.list()] == ["fake", "fake-embed", "fake-rerank"]
    page = ai.models.list(limit=1)
    assert page.has_more and page.first_id == page.last_id == "fake"
    assert [m.id for m in page] == ["fake", "fake-embed", "fake-rerank"]
    page = ai.models.list(limit=1, before_id="fake-embed")
    assert [m.id for m in page.data] == ["fake"] and not page.has_more
    m = ai.models.retrieve("fake")
    assert m.type == "model" and m.created_at.year == 2023 and m.max_input_tokens == 4096
    with pytest.raises(anthropic.NotFoundError):
        ai.models.retrieve("none")
    with pytest.raises(anthropic.BadRequestError):
        ai.models.list(limit=0)
    assert c.get("/v1/models").json()["object"] == "list"


# ---- of the real binary -------------------------------------------------------------------------

QUESTION = "Name three colours."


@pytest.fixture(scope="module")
def real_ai(real):
    return client_of(real)


def ask(text=QUESTION, **kw):
    """The newest client has no sampling parameters of its own any more."""
    return {"model": "smollm2", "max_tokens": 24, "extra_body": {"temperature": 0},
            "messages": [{"role": "user", "content": text}], **kw}


def text_of(m):
    return "".join(b.text for b in m.content)


def streamed(ai, **kw):
    with ai.messages.stream(**kw) as s:
        return "".join(s.text_stream)


@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 0.9, "seed": 42}])
def test_same_text_as_openai(real, real_ai, sampling):
    oai = openai.OpenAI(base_url=real.base + "/v1", api_key="any", max_retries=0,
                        http_client=httpx.Client(trust_env=False, timeout=300))
    want = oai.chat.completions.create(model="smollm2", max_tokens=24, **sampling,
                                       messages=ask()["messages"]).choices[0].message.content
    kw = ask(extra_body=sampling)
    assert text_of(real_ai.messages.create(**kw)) == want
    assert streamed(real_ai, **kw) == want


def test_prefill_goes_on_with_the_turn(real, real_ai):
    """The answer split anywhere: what follows the first half is the second half."""
    whole = text_of(real_ai.messages.create(**ask()))
    cut = whole.rindex(" ", 0, len(whole) // 2)
    turns = ask()["messages"] + [{"role": "assistant", "content": whole[:cut]}]
    rest = text_of(real_ai.messages.create(**{**ask(), "messages": turns, "max_tokens": 8}))
    assert rest and whole[cut:].startswith(rest)
    with real.client(timeout=300) as c:
        body = {"model": "smollm2", "messages": turns, "max_tokens": 1, "temperature": 0}
        r = c.post("/v1/messages", json=body).json()
        prompt = c.post("/apply-template", json={"messages": ask()["messages"]}).json()["prompt"]
        ids = c.post("/tokenize", json={"content": prompt + whole[:cut]}).json()["tokens"]
    assert r["usage"]["input_tokens"] + r["usage"]["cache_read_input_tokens"] == len(ids)


def test_real_count_is_what_is_used(real_ai):
    kw = {k: v for k, v in ask(system="Be brief.").items() if k in ("model", "messages", "system")}
    u = real_ai.messages.create(**kw, max_tokens=1).usage
    n = real_ai.messages.count_tokens(**kw).input_tokens
    assert n == u.input_tokens + u.cache_read_input_tokens + u.cache_creation_input_tokens


def test_real_cache_read(real_ai):
    kw = ask("Tell me about the sea. " * 12, max_tokens=1)
    first, second = (real_ai.messages.create(**kw).usage for _ in range(2))
    total = first.input_tokens + first.cache_read_input_tokens
    assert second.cache_read_input_tokens >= 16
    assert second.input_tokens + second.cache_read_input_tokens == total


def test_real_stop_sequence(real_ai):
    whole = text_of(real_ai.messages.create(**ask()))
    stop = whole[len(whole) // 2:len(whole) // 2 + 3]
    m = real_ai.messages.create(**ask(stop_sequences=[stop]))
    assert (m.stop_reason, m.stop_sequence) == ("stop_sequence", stop)
    assert text_of(m) == whole[:whole.index(stop)]
