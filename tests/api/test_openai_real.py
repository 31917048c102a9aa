"""The real binary with smollm2 and minilm, through the official client."""
import concurrent.futures
import math
import time

import httpx
import openai
import pytest

from conftest import metric, wait_until

CHAT, EMBED = "smollm2", "minilm"


def ask(text, **kw):
    return dict(model=CHAT, messages=[{"role": "user", "content": text}], **kw)


@pytest.fixture(scope="module")
def ai(real):
    return openai.OpenAI(base_url=real.base + "/v1", api_key="any", max_retries=0, timeout=300,
                         http_client=httpx.Client(trust_env=False, timeout=300))


def streamed(ai, **kw):
    return "".join(c.choices[0].delta.content or "" for c in
                   ai.chat.completions.create(stream=True, **kw) if c.choices)


def test_models(ai):
    names = [m.id for m in ai.models.list()]
    assert any(CHAT in n for n in names) and any(EMBED in n for n in names)


def test_chat(ai):
    r = ai.chat.completions.create(**ask("What is 2 + 2?", temperature=0, max_tokens=40))
    assert "4" in r.choices[0].message.content
    assert 1 <= r.usage.completion_tokens <= 40 and r.usage.prompt_tokens > 5


def test_stream_equals_whole(ai):
    kw = ask("Tell me a short story about a fox.", temperature=0, max_tokens=48)
    assert streamed(ai, **kw) == ai.chat.completions.create(**kw).choices[0].message.content


def test_length(ai):
    r = ai.chat.completions.create(**ask("Count to one hundred.", temperature=0, max_tokens=5))
    assert r.choices[0].finish_reason == "length" and r.usage.completion_tokens == 5


def test_logprobs(ai):
    r = ai.chat.completions.create(**ask("Say yes.", temperature=0, max_tokens=6, logprobs=True,
                                         top_logprobs=3))
    items = r.choices[0].logprobs.content
    assert len(items) == r.usage.completion_tokens or len(items) == r.usage.completion_tokens - 1
    for item in items:
        assert item.logprob <= 0 and len(item.top_logprobs) == 3
        assert item.top_logprobs[0].logprob >= item.top_logprobs[1].logprob
        assert item.logprob == pytest.approx(item.top_logprobs[0].logprob, abs=1e-4)


def test_stop(ai):
    kw = ask("Count from 1 to 10, with commas.", temperature=0, max_tokens=60)
    full = ai.chat.completions.create(**kw).choices[0].message.content
    stop = full[len(full) // 2:len(full) // 2 + 3]
    cut = ai.chat.completions.create(**kw, stop=[stop]).choices[0]
    assert cut.message.content == full[:full.index(stop)] and cut.finish_reason == "stop"
    assert streamed(ai, **kw, stop=[stop]) == cut.message.content


def test_n_with_seed(ai):
    kw = ask("Invent a name for a ship.", temperature=1, seed=7, n=2, max_tokens=16)
    a = [c.message.content for c in ai.chat.completions.create(**kw).choices]
    b = [c.message.content for c in ai.chat.completions.create(**kw).choices]
    assert a == b and len(a) == 2
    assert a[0] != a[1]


def test_completions(ai):
    r = ai.completions.create(model=CHAT, prompt="Once upon a", temperature=0, max_tokens=4,
                              echo=True, logprobs=1)
    assert r.choices[0].text.startswith("Once upon a")
    assert r.choices[0].logprobs.token_logprobs[0] is None


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b))


def test_embeddings(ai):
    r = ai.embeddings.create(model=EMBED, input=["The cat sits on the mat.",
                                                 "A cat is sitting on a rug.",
                                                 "Stock prices fell sharply today."])
    v = [d.embedding for d in r.data]
    assert all(len(x) == 384 for x in v)
    assert all(math.isclose(cosine(x, x), 1, abs_tol=1e-3) for x in v)
    assert cosine(v[0], v[1]) > cosine(v[0], v[2]) + 0.2


def test_errors(ai):
    with pytest.raises(openai.NotFoundError):
        ai.chat.completions.create(**{**ask("x"), "model": "no-such-model"})
    with pytest.raises(openai.BadRequestError):
        ai.embeddings.create(model=CHAT, input="x")
    with pytest.raises(openai.BadRequestError) as e:
        ai.chat.completions.create(**ask("word " * 40000))
    assert e.value.code == "context_length_exceeded"


def test_cancel_frees_the_sequence(real):
    c = real.client()
    with c.stream("POST", "/v1/chat/completions",
                  json=ask("Write a very long story.", stream=True, ignore_eos=True)) as r:
        lines = (x for x in r.iter_lines() if '"content":"' in x)
        next(lines)
        next(lines)
        assert metric(real, "sluice_num_requests_running") >= 1
    c.close()
    wait_until(lambda: metric(real, "sluice_num_requests_running") == 0)


def test_batch_invariance(ai):
    prompts = [f"Write one sentence about the number {i}." for i in range(8)]
    kw = dict(temperature=0, max_tokens=24)
    alone = [streamed(ai, **ask(p), **kw) for p in prompts]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda p: streamed(ai, **ask(p), **kw), prompts))
    assert together == alone


def test_rag(real):
    text = ("# The Lighthouse of Varn\n\nThe lighthouse of Varn was built in 1873 by Ada Holm. "
            "It is 42 metres tall.\n\n# Harbour\n\nThe harbour freezes in January.\n")
    with real.client(timeout=300) as c:
        r = c.post("/v1/rag/documents", json={"name": "varn.md", "text": text})
        assert r.status_code == 200, r.text
        assert r.json()["chunks"] >= 1
        assert "varn.md" in [d["name"] for d in c.get("/v1/rag/documents").json()["data"]]
        r = c.post("/v1/rag/query", json={"question": "How tall is the lighthouse of Varn?",
                                          "max_tokens": 48})
        assert r.status_code == 200, r.text
        body = r.json()
        assert body["passages"] and body["answer"]
        raw = text.encode()
        for p in body["passages"]:
            if p["document"] == "varn.md":
                assert 0 <= p["start"] < p["end"] <= len(raw)
        numbers = {p["number"] for p in body["passages"]}
        assert all(x["number"] in numbers for x in body["citations"])
        with c.stream("POST", "/v1/rag/query", json={"question": "How tall is it?", "stream": True,
                                                     "max_tokens": 16}) as s:
            events = [x[7:] for x in s.iter_lines() if x.startswith("event: ")]
        assert events[0] == "retrieval" and events[-1] == "done" and "delta" in events
        assert c.delete("/v1/rag/documents/varn.md").json()["deleted"] is True
