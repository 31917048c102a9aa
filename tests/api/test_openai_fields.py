"""vLLM's extension fields of the OpenAI dialect on the real binary, through the official client."""
import json
import math

import httpx
import openai
import pytest

CHAT = "smollm2"


@pytest.fixture(scope="module")
def ai(real):
    return openai.OpenAI(base_url=real.base + "/v1", api_key="any", max_retries=0, timeout=300,
                         http_client=httpx.Client(trust_env=False, timeout=300))


def ask(text, extra=None, **kw):
    return dict(model=CHAT, messages=[{"role": "user", "content": text}], extra_body=extra or {},
                **{"temperature": 0, "max_tokens": 8, **kw})


def complete(ai, prompt, extra=None, **kw):
    return ai.completions.create(model=CHAT, prompt=prompt, extra_body=extra or {},
                                 **{"temperature": 0, "max_tokens": 4, **kw})


def tokens_of(real, text):
    with real.client() as c:
        return c.post("/tokenize", json={"content": text, "add_special": False}).json()["tokens"]


def text_of(real, ids):
    with real.client() as c:
        return c.post("/detokenize", json={"tokens": ids}).json()["content"]


def refused(ai, param, call):
    with pytest.raises(openai.BadRequestError) as e:
        call()
    assert param in (e.value.param or "") + e.value.message


def test_prompt_logprobs(real, ai):
    """The same numbers as echo's, with rank and alternatives."""
    ids = tokens_of(real, "The quick brown fox jumps over")
    r = complete(ai, ids, {"prompt_logprobs": 3, "return_token_ids": True})
    choice = r.choices[0].model_dump()
    assert choice["prompt_token_ids"] == ids
    assert len(choice["prompt_logprobs"]) == len(ids) and choice["prompt_logprobs"][0] is None
    echoed = complete(ai, ids, echo=True, logprobs=1, max_tokens=0).choices[0].logprobs
    for i, place in enumerate(choice["prompt_logprobs"][1:], 1):
        own = place[str(ids[i])]
        assert own["logprob"] == pytest.approx(echoed.token_logprobs[i], abs=1e-5)
        assert own["decoded_token"] == echoed.tokens[i]
        ranks = sorted(x["rank"] for x in place.values())
        assert ranks[:3] == [1, 2, 3] and len(place) == (3 if own["rank"] <= 3 else 4)
        best = min(place.values(), key=lambda x: x["rank"])
        assert best["logprob"] == max(x["logprob"] for x in place.values())
        assert math.isclose(best["logprob"], max(echoed.top_logprobs[i].values()), abs_tol=1e-5)
    # In a chat they stand beside the choices; 0 is the token alone.
    chat = ai.chat.completions.create(**ask("Hi", {"prompt_logprobs": 0}, n=2, temperature=1)).model_dump()
    assert len(chat["prompt_logprobs"]) == chat["usage"]["prompt_tokens"]
    assert all(len(p) == 1 for p in chat["prompt_logprobs"][1:])
    assert "prompt_logprobs" not in chat["choices"][0]
    refused(ai, "prompt_logprobs", lambda: complete(ai, ids, {"prompt_logprobs": 1}, stream=True))
    refused(ai, "prompt_logprobs", lambda: complete(ai, ids, {"prompt_logprobs": 21}))


def test_prompt_logprobs_change_nothing(ai):
    kw = dict(prompt=["Once upon a time", "The sea"], temperature=0.8, seed=3, n=2, max_tokens=12)
    plain = ai.completions.create(model=CHAT, **kw)
    told = ai.completions.create(model=CHAT, **kw, extra_body={"prompt_logprobs": 2, "return_token_ids": True})
    assert [c.text for c in plain.choices] == [c.text for c in told.choices]
    dump = [c.model_dump() for c in told.choices]
    assert dump[0]["prompt_logprobs"] == dump[1]["prompt_logprobs"] != dump[2]["prompt_logprobs"]


def test_token_ids(real, ai):
    r = ai.chat.completions.create(**ask("Say hi", {"return_token_ids": True}, max_tokens=60)).model_dump()
    ids = r["choices"][0]["token_ids"]
    assert len(r["prompt_token_ids"]) == r["usage"]["prompt_tokens"]
    assert len(ids) == r["usage"]["completion_tokens"]
    ends = r["choices"][0]["finish_reason"] == "stop"  # the token that ended it is told and has no text
    assert text_of(real, ids[:-1] if ends else ids) == r["choices"][0]["message"]["content"]
    chunks = [c.model_dump() for c in ai.chat.completions.create(
        **ask("Say hi", {"return_token_ids": True}, max_tokens=60), stream=True)]
    assert chunks[0]["prompt_token_ids"] == r["prompt_token_ids"]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert all("prompt_token_ids" not in c for c in chunks[1:])
    assert sum((c["choices"][0].get("token_ids") or [] for c in chunks), []) == ids
    pair = [c.model_dump()["choices"][0] for c in complete(ai, ["One", "Two two"], {"return_token_ids": True},
                                                           stream=True)]
    for i, text in enumerate(["One", "Two two"]):
        mine = [c for c in pair if c["index"] == i]
        assert mine[0]["prompt_token_ids"] == tokens_of(real, text)
        assert all("prompt_token_ids" not in c for c in mine[1:])
        assert text_of(real, sum((c["token_ids"] for c in mine), [])) == "".join(c["text"] for c in mine)


def test_tokens_as_ids(real, ai):
    r = complete(ai, "The sky is", {"return_tokens_as_token_ids": True, "return_token_ids": True}, logprobs=2)
    lp = r.choices[0].logprobs
    assert lp.tokens == [f"token_id:{i}" for i in r.choices[0].model_dump()["token_ids"]]
    assert all(k.startswith("token_id:") for k in lp.top_logprobs[0])


def test_allowed_and_bad_words(real, ai):
    yes, no = tokens_of(real, " yes")[0], tokens_of(real, " no")[0]
    r = complete(ai, "Is it so? Answer:", {"allowed_token_ids": [yes, no]}, max_tokens=5, temperature=1, seed=1)
    assert set(r.choices[0].text.split()) <= {"yes", "no"} and r.usage.completion_tokens == 5
    free = ai.chat.completions.create(**ask("Name some animals.", max_tokens=20)).choices[0].message.content
    words = [w for w in free.split() if w.isalpha()]
    kw = ask("Name some animals.", {"bad_words": words}, max_tokens=20)
    assert not set(words) & set(ai.chat.completions.create(**kw).choices[0].message.content.split())
    streamed = "".join(c.choices[0].delta.content or "" for c in ai.chat.completions.create(**kw, stream=True))
    assert streamed == ai.chat.completions.create(**kw).choices[0].message.content


def test_min_tokens_and_bias(real, ai):
    end = tokens_of(real, "<|im_end|>")[0]
    kw = dict(max_tokens=12, logit_bias={str(end): 100})
    assert ai.chat.completions.create(**ask("Hi", **kw)).choices[0].message.content == ""
    r = ai.chat.completions.create(**ask("Hi", {"min_tokens": 6}, **kw))
    assert r.usage.completion_tokens == 7 and r.choices[0].finish_reason == "stop"
    shown = ai.chat.completions.create(**ask("Hi", {"min_tokens": 2, "skip_special_tokens": False, "ignore_eos": True},
                                             **kw))
    assert shown.choices[0].message.content.endswith("<|im_end|>")
    refused(ai, "min_tokens", lambda: ai.chat.completions.create(**ask("Hi", {"min_tokens": 99})))


def test_truncated_prompts(real, ai):
    ids = tokens_of(real, "one two three four five six seven eight")
    r = complete(ai, ids, {"truncate_prompt_tokens": 3, "return_token_ids": True}).choices[0].model_dump()
    assert r["prompt_token_ids"] == ids[-3:]
    assert r["text"] == complete(ai, ids[-3:]).choices[0].text


def test_truncated_to_the_context(real_factory):
    server = real_factory("--model", CHAT, env={"SLUICE_ENGINE_CONTEXT": "512"})
    with server.client(timeout=300) as c:
        body = {"prompt": "word " * 2000, "truncate_prompt_tokens": -1, "max_tokens": 8, "ignore_eos": True}
        usage = c.post("/v1/completions", json=body).json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (512 - 8, 8)


def test_chat_templates(real, ai):
    own = "{% for m in messages %}[{{ m.role }}] {{ m.content }} {{ mood }}{{ documents[0].text if documents }}{% endfor %}"
    extra = {"chat_template": own, "chat_template_kwargs": {"mood": "gladly"}, "return_token_ids": True}
    r = ai.chat.completions.create(**ask("Hello", extra)).model_dump()
    assert text_of(real, r["prompt_token_ids"]).endswith("[user] Hello gladly")
    r = ai.chat.completions.create(**ask("Hello", {**extra, "documents": [{"text": "!!"}]})).model_dump()
    assert text_of(real, r["prompt_token_ids"]).endswith("[user] Hello gladly!!")
    refused(ai, "chat_template: template line 1 column", lambda: ai.chat.completions.create(
        **ask("Hi", {"chat_template": "{{ broken"})))
    refused(ai, "no robots", lambda: ai.chat.completions.create(
        **ask("Hi", {"chat_template": "{{ raise_exception('no robots') }}"})))
    refused(ai, "steps", lambda: ai.chat.completions.create(**ask("Hi", {
        "chat_template": "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"})))
    refused(ai, "chat_template", lambda: ai.chat.completions.create(**ask("Hi", {"chat_template": "x" * 70000})))


def test_chat_echo(ai):
    """As vLLM's: only the message of whose role the answer is."""
    messages = [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "One, two,"}]
    extra = {"echo": True, "add_generation_prompt": False}
    kw = dict(model=CHAT, messages=messages, temperature=0, max_tokens=6)
    whole = ai.chat.completions.create(**kw, extra_body=extra).choices[0].message
    assert whole.content.startswith("One, two,") and whole.role == "assistant"
    chunks = list(ai.chat.completions.create(**kw, extra_body=extra, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.content
    assert chunks[1].choices[0].delta.content == "One, two,"
    asked = ai.chat.completions.create(**ask("Count.", {"echo": True})).choices[0].message.content
    assert not asked.startswith("Count.")
    own = ai.chat.completions.create(**ask("Count.", {"echo": True, "add_generation_prompt": False})).choices[0].message
    assert own.role == "user" and own.content.startswith("Count.")


def test_continue_final_message(real, ai):
    messages = [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "One, two,"}]
    kw = dict(model=CHAT, messages=messages, temperature=0, max_tokens=6)
    extra = {"continue_final_message": True, "return_token_ids": True}
    r = ai.chat.completions.create(**kw, extra_body=extra).model_dump()
    assert text_of(real, r["prompt_token_ids"]).endswith("<|im_start|>assistant\nOne, two,")
    assert r["choices"][0]["message"]["content"].startswith(" three")
    whole = ai.chat.completions.create(**kw, extra_body={**extra, "echo": True}).choices[0].message.content
    assert whole == "One, two," + r["choices"][0]["message"]["content"]
    streamed = "".join(c.choices[0].delta.content or "" for c in ai.chat.completions.create(
        **kw, extra_body={**extra, "echo": True}, stream=True))
    assert streamed == whole
    own = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
    r = ai.chat.completions.create(**kw, extra_body={**extra, "chat_template": own}).model_dump()
    assert text_of(real, r["prompt_token_ids"]).endswith("<user>Count.</><assistant>One, two,")
    refused(ai, "continue_final_message", lambda: ai.chat.completions.create(
        **kw, extra_body={**extra, "add_generation_prompt": True}))
    refused(ai, "continue_final_message", lambda: ai.chat.completions.create(**ask("Hi", extra)))


def test_best_of(ai):
    kw = dict(prompt=["A list of colours:", "My name is"], temperature=1.2, seed=5, max_tokens=8)
    every = ai.completions.create(model=CHAT, n=6, logprobs=0, **kw).choices
    best = ai.completions.create(model=CHAT, n=2, best_of=6, **kw)
    assert [c.index for c in best.choices] == [0, 1, 2, 3] and best.choices[0].logprobs is None
    for prompt in range(2):
        mine = every[prompt * 6:prompt * 6 + 6]
        mean = lambda c: sum(c.logprobs.token_logprobs) / max(len(c.logprobs.token_logprobs), 1)  # noqa: E731
        ranked = [c.text for c in sorted(mine, key=mean, reverse=True)]
        assert [c.text for c in best.choices[prompt * 2:prompt * 2 + 2]] == ranked[:2]
    assert best.usage.completion_tokens >= 12 * 6
    refused(ai, "best_of", lambda: ai.completions.create(model=CHAT, best_of=3, stream=True, **kw))
    refused(ai, "best_of", lambda: ai.completions.create(model=CHAT, best_of=2, n=3, **kw))


def test_completion_echo(ai):
    r = complete(ai, ["The sun", "A cat sat"], echo=True, logprobs=2)
    for c, text in zip(r.choices, ["The sun", "A cat sat"]):
        assert c.text.startswith(text) and "".join(c.logprobs.tokens) == c.text
        assert c.logprobs.token_logprobs[0] is None and c.logprobs.top_logprobs[0] is None
        assert c.logprobs.text_offset[1] == len(c.logprobs.tokens[0])
        assert all(len(t) in (2, 3) for t in c.logprobs.top_logprobs[1:])
    streamed = {}
    for c in complete(ai, ["The sun", "A cat sat"], echo=True, stream=True):
        streamed[c.choices[0].index] = streamed.get(c.choices[0].index, "") + c.choices[0].text
    assert [streamed[0], streamed[1]] == [c.text for c in r.choices]


def test_cache_salt(ai):
    """Prefixes are shared within a salt and with nobody outside it."""
    def cached(salt):
        extra = {"cache_salt": salt} if salt else {}
        r = ai.chat.completions.create(**ask("Tell me about the long history of lighthouses. " * 6, extra, max_tokens=1))
        return r.usage.prompt_tokens_details.cached_tokens

    assert cached("a") == 0 and cached("a") > 32
    assert cached("b") == 0 and cached("b") > 32
    assert cached(None) <= 32 < cached(None)  # others of these tests began alike, up to the question
    refused(ai, "cache_salt", lambda: ai.chat.completions.create(**ask("Hi", {"cache_salt": ""})))


def test_priority(ai):
    r = ai.chat.completions.create(**ask("Hi", {"priority": -5}))
    assert r.choices[0].message.content
    refused(ai, "priority", lambda: ai.chat.completions.create(**ask("Hi", {"priority": "soon"})))


def test_continuous_usage(ai):
    chunks = list(ai.chat.completions.create(
        **ask("Count to nine.", max_tokens=9), stream=True,
        stream_options={"include_usage": True, "continuous_usage_stats": True}))
    counts = [c.usage.completion_tokens for c in chunks]
    assert counts[0] == 0 and counts == sorted(counts) and counts[-1] == 9 and chunks[-1].choices == []
    assert len({c.usage.prompt_tokens for c in chunks}) == 1 and chunks[0].usage.prompt_tokens > 0
    assert all(c.usage.total_tokens == c.usage.prompt_tokens + c.usage.completion_tokens for c in chunks)


def test_stop_reason(ai):
    r = complete(ai, "1, 2, 3, 4,", stop=[" 6"], max_tokens=20)
    assert r.choices[0].model_dump()["stop_reason"] == " 6"
    assert "stop_reason" not in complete(ai, "1, 2, 3,", max_tokens=2).choices[0].model_dump()


def test_small_routes(real):
    with real.client() as c:
        assert c.get("/ping").status_code == c.post("/ping").status_code == 200
        assert c.get("/load").json() == {"server_load": 0}
        assert set(c.get("/version").json()) == {"version"}
        with c.stream("POST", "/v1/chat/completions", json={
                "messages": [{"role": "user", "content": "Tell a very long story."}], "stream": True,
                "ignore_eos": True}) as r:
            lines = r.iter_lines()
            next(lines)
            with real.client() as other:
                assert other.get("/load").json() == {"server_load": 1}


def test_embeddings(ai):
    """Cut vectors have length 1 again; base64 and floats agree; ids embed like their text."""
    whole = ai.embeddings.create(model="minilm", input="A cat.", encoding_format="float").data[0].embedding
    cut = ai.embeddings.create(model="minilm", input="A cat.", dimensions=64, encoding_format="float").data[0].embedding
    packed = ai.embeddings.create(model="minilm", input="A cat.", dimensions=64).data[0].embedding
    norm = math.sqrt(sum(x * x for x in whole[:64]))
    assert len(cut) == 64 and cut == pytest.approx([x / norm for x in whole[:64]], abs=1e-6)
    assert math.isclose(sum(x * x for x in cut), 1, abs_tol=1e-5)
    assert packed == pytest.approx(cut, abs=1e-7)
    with httpx.Client(base_url=str(ai.base_url), trust_env=False) as c:
        ids = c.post("../tokenize", json={"model": "minilm", "content": "A cat.", "add_special": True}).json()["tokens"]
        got = c.post("embeddings", json={"model": "minilm", "input": [ids, ids]}).json()
    assert got["data"][0]["embedding"] == got["data"][1]["embedding"] == pytest.approx(whole, abs=1e-6)
    assert got["usage"]["prompt_tokens"] == 2 * len(ids)
    assert json.dumps(got)
