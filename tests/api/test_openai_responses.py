"""/v1/responses and retries, through the official client: over a scripted model and on the real one."""
import asyncio
import json
import os

import httpx
import openai
import pytest

ORDER = ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
         "response.output_text.delta", "response.output_text.done", "response.content_part.done",
         "response.output_item.done", "response.completed"]


def client_of(server, key="any", **kw):
    return openai.OpenAI(base_url=server.base + "/v1", api_key=key, max_retries=0, timeout=300,
                         http_client=httpx.Client(trust_env=False, timeout=300), **kw)


@pytest.fixture(scope="module")
def ai(fake):
    return client_of(fake)


@pytest.fixture(scope="module")
def real_ai(real):
    return client_of(real)


def test_create(ai):
    r = ai.responses.create(model="fake", input="hi", instructions="Be brief.", metadata={"a": "b"}, temperature=0.5)
    assert r.id.startswith("resp_") and r.object == "response" and r.status == "completed"
    assert r.output_text == "w0 w1 w2 w3 w4 " and r.output[0].role == "assistant"
    assert r.output[0].id.startswith("msg_") and r.output[0].content[0].annotations == []
    assert (r.usage.input_tokens, r.usage.output_tokens, r.usage.total_tokens) == (7, 5, 12)
    assert r.usage.input_tokens_details.cached_tokens == 3
    assert r.instructions == "Be brief." and r.metadata == {"a": "b"} and r.temperature == 0.5
    assert r.error is None and r.incomplete_details is None and r.store is True and r.tools == []
    assert r.truncation == "disabled" and r.text.format.type == "text" and r.previous_response_id is None


def test_incomplete(ai):
    r = ai.responses.create(model="fake", input="hi", max_output_tokens=2)
    assert r.status == r.output[0].status == "incomplete" and r.incomplete_details.reason == "max_output_tokens"
    assert r.output_text == "w0 w1 " and r.max_output_tokens == 2
    events = list(ai.responses.create(model="fake", input="hi", max_output_tokens=2, stream=True))
    assert events[-1].type == "response.incomplete" and events[-1].response.output_text == "w0 w1 "


def test_stream(fake, ai):
    events = list(ai.responses.create(model="fake", input="hi", stream=True))
    types = [e.type for e in events]
    assert [t for i, t in enumerate(types) if i == 0 or t != types[i - 1]] == ORDER
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "w0 w1 w2 w3 w4 "
    first, last = events[0].response, events[-1].response
    assert first.id == last.id and first.status == "in_progress" and first.output == [] and first.usage is None
    assert last.status == "completed" and last.usage.total_tokens == 12
    item = last.output[0].id
    assert all(e.item_id == item for e in events if hasattr(e, "item_id"))
    with fake.client() as c, c.stream("POST", "/v1/responses", json={"input": "hi", "stream": True}) as r:
        lines = [x for x in r.iter_lines() if x]
    assert lines[0] == "event: response.created" and lines[1].startswith("data: {")
    assert not any("[DONE]" in x for x in lines)
    assert [x[7:] for x in lines[::2]] == [json.loads(x[6:])["type"] for x in lines[1::2]]


def test_stream_helper(ai):
    """The client's own accumulator accepts the order."""
    with ai.responses.stream(model="fake", input="hi") as s:
        assert "response.output_text.delta" in [e.type for e in s]
        assert s.get_final_response().output_text == "w0 w1 w2 w3 w4 "


def test_async(fake):
    async def go():
        async with openai.AsyncOpenAI(base_url=fake.base + "/v1", api_key="any", max_retries=0,
                                      http_client=httpx.AsyncClient(trust_env=False)) as c:
            whole = await asyncio.gather(*[c.responses.create(model="fake", input=f"hi {i}") for i in range(8)])
            assert len({r.id for r in whole}) == 8
            text = [e.delta async for e in await c.responses.create(model="fake", input="hi", stream=True)
                    if e.type == "response.output_text.delta"]
            chat = [x.choices[0].delta.content or "" async for x in await c.chat.completions.create(
                model="fake", messages=[{"role": "user", "content": "hi"}], stream=True)]
            assert "".join(text) == "".join(chat) == whole[0].output_text
            got = await c.responses.retrieve(whole[3].id)
            assert got.output_text == whole[3].output_text

    asyncio.run(go())


def test_logprobs(ai):
    kw = dict(model="fake", input="hi", include=["message.output_text.logprobs"], top_logprobs=2, max_output_tokens=2)
    part = ai.responses.create(**kw).output[0].content[0]
    assert [p.token for p in part.logprobs] == ["w0 ", "w1 "] and part.logprobs[0].logprob == -0.5
    assert part.logprobs[0].top_logprobs[1].logprob == -2
    deltas = [e for e in ai.responses.create(**kw, stream=True) if e.type == "response.output_text.delta"]
    assert [[p.token for p in d.logprobs] for d in deltas] == [["w0 "], ["w1 "]]


def test_store(ai):
    made = ai.responses.create(model="fake", input=[
        {"role": "user", "content": "one"}, {"role": "assistant", "content": [{"type": "output_text", "text": "two"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}])
    got = ai.responses.retrieve(made.id)
    assert got.model_dump() == made.model_dump()
    items = list(ai.responses.input_items.list(made.id))
    assert [i.content[0].text for i in items] == ["hi", "two", "one"] and len({i.id for i in items}) == 3
    assert [i.content[0].type for i in items] == ["input_text", "output_text", "input_text"]
    page = ai.responses.input_items.list(made.id, limit=2, order="asc")
    assert [i.content[0].text for i in page.data] == ["one", "two"] and page.has_more
    rest = page.get_next_page()
    assert [i.content[0].text for i in rest.data] == ["hi"] and not rest.has_more
    with pytest.raises(openai.BadRequestError):
        ai.responses.cancel(made.id)
    with pytest.raises(openai.BadRequestError):
        ai.responses.retrieve(made.id, stream=True)
    ai.responses.delete(made.id)
    for call in (ai.responses.retrieve, ai.responses.delete, ai.responses.cancel, ai.responses.input_items.list):
        with pytest.raises(openai.NotFoundError):
            call(made.id)
    unkept = ai.responses.create(model="fake", input="hi", store=False)
    assert unkept.store is False
    with pytest.raises(openai.NotFoundError):
        ai.responses.retrieve(unkept.id)
    streamed = list(ai.responses.create(model="fake", input="hi", stream=True))[-1].response
    assert ai.responses.retrieve(streamed.id).output_text == "w0 w1 w2 w3 w4 "


def test_previous_must_exist(ai):
    with pytest.raises(openai.BadRequestError) as e:
        ai.responses.create(model="fake", input="hi", previous_response_id="resp_none")
    assert e.value.code == "previous_response_not_found" and e.value.param == "previous_response_id"


def test_nobody_reads_anothers(fake_factory):
    server = fake_factory("sk-one-one-one-one", "sk-two-two-two-two")
    one, two = client_of(server, "sk-one-one-one-one"), client_of(server, "sk-two-two-two-two")
    made = one.responses.create(model="fake", input="hi")
    assert one.responses.retrieve(made.id).id == made.id
    for call in (two.responses.retrieve, two.responses.delete, two.responses.input_items.list):
        with pytest.raises(openai.NotFoundError):
            call(made.id)
    with pytest.raises(openai.BadRequestError) as e:
        two.responses.create(model="fake", input="hi", previous_response_id=made.id)
    assert e.value.code == "previous_response_not_found"
    assert one.responses.create(model="fake", input="hi", previous_response_id=made.id).previous_response_id == made.id
    one.responses.delete(made.id)


@pytest.mark.parametrize("change,param", [
    ({"input": None}, "input"), ({"input": []}, "input"), ({"input": 5}, "input"),
    ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
    ({"input": [{"role": "user"}]}, "input[0].content"),
    ({"input": [{"type": "function_call_output", "call_id": "x", "output": "y"}]}, "input[0]"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input[0].content[0]"),
    ({"tools": [{"type": "function", "name": "f"}]}, "tools"), ({"background": True}, "background"),
    ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {}}}}, "text.format"),
    ({"conversation": "conv_1"}, "conversation"), ({"prompt": {"id": "p"}}, "prompt"),
    ({"tool_choice": "required"}, "tool_choice"), ({"truncation": "some"}, "truncation"),
    ({"metadata": {"a": 1}}, "metadata"), ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
    ({"max_output_tokens": 0}, "max_output_tokens"), ({"top_logprobs": 2}, "top_logprobs"),
    ({"include": ["nothing"]}, "include"), ({"temperature": 3}, "temperature"),
])
def test_refusals(fake, change, param):
    with fake.client() as c:
        r = c.post("/v1/responses", json={"model": "fake", "input": "hi", **change})
    assert r.status_code == 400, r.text
    error = r.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["param"] == param


def test_failures(ai):
    with pytest.raises(openai.NotFoundError):
        ai.responses.create(model="nope", input="hi")
    with pytest.raises(openai.BadRequestError) as e:
        ai.responses.create(model="fake", input="context")
    assert e.value.code == "context_length_exceeded"
    with pytest.raises(openai.InternalServerError):
        ai.responses.create(model="fake", input="busy")
    with pytest.raises(openai.InternalServerError):
        ai.responses.create(model="fake", input="error")
    last = list(ai.responses.create(model="fake", input="error", stream=True))[-1]
    assert last.type == "response.failed" and last.response.status == "failed"
    assert "engine failed" in last.response.error.message


@pytest.mark.parametrize("script", ["busy once", "limit once"])
def test_retries(fake, monkeypatch, script):
    """The client waits as long as Retry-After says, and then succeeds."""
    waits = []
    monkeypatch.setattr("openai._base_client.time.sleep", waits.append)
    c = client_of(fake).with_options(max_retries=2)
    r = c.chat.completions.create(model="fake", messages=[{"role": "user", "content": script + " more"}])
    assert r.choices[0].message.content and waits == [1.0]
    assert c.responses.create(model="fake", input=script + " more").output_text and waits == [1.0, 1.0]
    with pytest.raises(openai.InternalServerError):
        c.chat.completions.create(model="fake", messages=[{"role": "user", "content": "busy"}])
    assert waits == [1.0] * 4


# ---- the real model ---------------------------------------------------------------------------


def test_conversation(real_ai):
    """A later turn is answered like the whole conversation, and instructions are not handed on."""
    kw = dict(model="smollm2", temperature=0, max_output_tokens=24)
    first = real_ai.responses.create(input="My name is Ada.", instructions="Be kind.", **kw)
    second = real_ai.responses.create(input="What is my name?", previous_response_id=first.id, **kw)
    third = real_ai.responses.create(input="And yours?", previous_response_id=second.id, instructions="Be short.", **kw)
    talk = [{"role": "user", "content": "My name is Ada."}, {"role": "assistant", "content": first.output_text},
            {"role": "user", "content": "What is my name?"}]
    chat = lambda m: real_ai.chat.completions.create(  # noqa: E731
        model="smollm2", messages=m, temperature=0, max_tokens=24)
    same = chat(talk)
    assert second.output_text == same.choices[0].message.content
    assert second.usage.input_tokens == same.usage.prompt_tokens
    talk += [{"role": "assistant", "content": second.output_text}, {"role": "user", "content": "And yours?"}]
    same = chat([{"role": "system", "content": "Be short."}] + talk)
    assert third.output_text == same.choices[0].message.content
    assert third.previous_response_id == second.id
    assert [i.content[0].text for i in real_ai.responses.input_items.list(third.id)] == ["And yours?"]


def test_input_tokens(real_ai):
    made = real_ai.responses.create(model="smollm2", input="Count me.", instructions="Now.", max_output_tokens=16)
    n = real_ai.responses.input_tokens.count(model="smollm2", input="Count me.", instructions="Now.")
    assert n.object == "response.input_tokens" and n.input_tokens == made.usage.input_tokens
    more = real_ai.responses.input_tokens.count(model="smollm2", input="More", previous_response_id=made.id)
    next_one = real_ai.responses.create(model="smollm2", input="More", previous_response_id=made.id, max_output_tokens=16)
    assert more.input_tokens == next_one.usage.input_tokens > n.input_tokens


def test_truncation(real_factory):
    """What does not fit is left out from the front; instructions and the last message stay."""
    small = client_of(real_factory("--model", "smollm2", env={"SLUICE_ENGINE_CONTEXT": "512"}))
    long = [{"role": "user", "content": f"Note {i}: " + "word " * 40} for i in range(30)]
    kw = dict(model="smollm2", input=long + [{"role": "user", "content": "Say hi."}], max_output_tokens=16)
    with pytest.raises(openai.BadRequestError) as e:
        small.responses.create(**kw)
    assert e.value.code == "context_length_exceeded"
    r = small.responses.create(**kw, instructions="Be short.", truncation="auto")
    assert r.truncation == "auto" and 512 - 16 - 60 < r.usage.input_tokens <= 512 - 16
    assert len(list(small.responses.input_items.list(r.id))) == 31


def test_kept_over_a_restart(real_factory, tmp_path):
    if not os.environ.get("SLUICE_DATA"):
        pytest.skip("SLUICE_DATA is not set")
    data = tmp_path / "data"
    data.mkdir()
    (data / "models").symlink_to(os.path.join(os.environ["SLUICE_DATA"], "models"))
    first = real_factory("--model", "smollm2", "--data", str(data))
    made = client_of(first).responses.create(model="smollm2", input="Hi", max_output_tokens=16)
    first.stop()
    second = real_factory("--model", "smollm2", "--data", str(data))
    got = client_of(second).responses.retrieve(made.id)
    assert got.model_dump() == made.model_dump()
    assert client_of(second).responses.create(model="smollm2", input="On", previous_response_id=made.id,
                                              max_output_tokens=16).status in ("completed", "incomplete")
