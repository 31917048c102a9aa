"""TGI's dialect through its two Python clients and raw HTTP: over a scripted model, and of the real
binary."""
import json

import huggingface_hub
import httpx
import openai
import pytest
import text_generation
from text_generation import errors

PROMPT = "The capital of France is"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """Both clients use requests or aiohttp, which read the environment."""
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def c(fake):
    with fake.client() as client:
        yield client


@pytest.fixture
def tgi(fake):
    return text_generation.Client(fake.base)


@pytest.fixture
def hub(fake):
    return huggingface_hub.InferenceClient(fake.base)


def body(text="hi", **parameters):
    parameters.setdefault("max_new_tokens", 3)
    return {"inputs": text, "parameters": parameters}


def records(response):
    return [json.loads(x[6:]) for x in response.iter_lines() if x.startswith("data: ")]


# ---- over a scripted model ----------------------------------------------------------------------

def test_generate(c):
    r = c.post("/generate", json=body(details=True))
    d = r.json()["details"]
    assert r.json()["generated_text"] == "w0 w1 w2 "
    assert d["finish_reason"] == "length" and d["generated_tokens"] == 3 and d["seed"] is None
    assert [t["text"] for t in d["tokens"]] == ["w0 ", "w1 ", "w2 "] and d["prefill"] == []
    assert set(d["tokens"][0]) == {"id", "text", "logprob", "special"}
    assert c.post("/generate", json=body()).json() == {"generated_text": "w0 w1 w2 "}


def test_headers(c):
    h = c.post("/generate", json=body("héllo")).headers
    assert h["x-compute-type"] and h["x-compute-characters"] == "5"
    assert h["x-prompt-tokens"] == "7" and h["x-generated-tokens"] == "3"
    for name in ("compute-time", "total-time", "validation-time", "queue-time", "inference-time",
                 "time-per-token"):
        assert float(h["x-" + name]) >= 0
    with c.stream("POST", "/generate_stream", json=body()) as r:
        assert r.headers["x-accel-buffering"] == "no" and r.headers["x-compute-type"]
        assert r.headers["content-type"].startswith("text/event-stream")


def test_stream(c):
    with c.stream("POST", "/generate_stream", json=body(seed=3, do_sample=True)) as r:
        seen = records(r)
    assert [x["index"] for x in seen] == [1, 2, 3]
    assert "".join(x["token"]["text"] for x in seen) == "w0 w1 w2 "
    assert all(x["generated_text"] is None and x["details"] is None for x in seen[:-1])
    assert seen[-1]["generated_text"] == "w0 w1 w2 "
    assert seen[-1]["details"] == {"finish_reason": "length", "generated_tokens": 3, "seed": 3,
                                   "input_length": 7}


def test_compat(c):
    assert c.post("/", json=body()).json() == [{"generated_text": "w0 w1 w2 "}]
    with c.stream("POST", "/", json={**body(), "stream": True}) as r:
        assert len(records(r)) == 3
    assert c.get("/").text.startswith("Sluice")


def test_details(c):
    r = c.post("/generate", json=body(decoder_input_details=True, top_n_tokens=2))
    d = r.json()["details"]
    assert r.json()["generated_text"] == "w0 w1 w2 "
    assert d["prefill"] == [{"id": 1, "text": "<s>", "logprob": None},
                            {"id": 2, "text": "p", "logprob": -1.5}]
    assert [len(t) for t in d["top_tokens"]] == [2, 2, 2]
    r = c.post("/generate", json=body(best_of=3, do_sample=True, details=True,
                                      return_full_text=True)).json()
    assert r["generated_text"] == "hiw0 w1 w2 "
    assert len(r["details"]["best_of_sequences"]) == 2
    assert r["details"]["tokens"][0]["logprob"] == -0.5


def test_invocations(c):
    assert c.post("/invocations", json=body()).json() == [{"generated_text": "w0 w1 w2 "}]
    r = c.post("/invocations", json={"messages": [{"role": "user", "content": "hi"}]}).json()
    assert r["object"] == "chat.completion"
    r = c.post("/invocations", json={"prompt": "hi", "max_tokens": 2}).json()
    assert r["choices"][0]["text"] == "w0 w1 "


def test_vertex(c):
    r = c.post("/vertex", json={"instances": [body("a"), body("b")]}).json()
    assert r == {"predictions": ["w0 w1 w2 ", "w0 w1 w2 "]}
    r = c.post("/vertex", json={"instances": [body("a"), body("b", seed=1)]})
    assert r.status_code == 422 and "parameters" in r.json()["error"]


def test_info_and_ping(c):
    i = c.get("/info").json()
    assert i["model_id"] == "fake" and i["max_total_tokens"] == 4096 and i["version"]
    assert c.get("/ping").status_code == 200 == c.get("/health").status_code


def test_errors(c):
    for text, status, kind in (("busy", 429, "overloaded"), ("context", 422, "validation"),
                               ("error", 424, "generation")):
        r = c.post("/generate", json=body(text))
        assert (r.status_code, r.json()["error_type"]) == (status, kind)
    r = c.post("/generate", json=body(grammar={"type": "regex", "value": "a"}))
    assert r.status_code == 422 and "grammar" in r.json()["error"]
    r = c.post("/generate", json=body(watermark=True))
    assert r.status_code == 422 and "watermark" in r.json()["error"]
    assert c.post("/generate", content=b"{").status_code == 422
    with c.stream("POST", "/generate_stream", json=body("error")) as r:
        last = records(r)[-1]
    assert last == {"error": "the engine failed", "error_type": "generation"}


def test_keys(fake_factory):
    server = fake_factory("sk-good")
    good = text_generation.Client(server.base, headers={"Authorization": "Bearer sk-good"})
    assert good.generate("hi", max_new_tokens=1).generated_text == "w0 "
    with server.client() as c:
        r = c.post("/generate", json=body())
        assert r.status_code == 401 and r.json()["error_type"] == "authentication"
        assert c.get("/ping").status_code == 200


def test_own_client(tgi):
    r = tgi.generate("hi", max_new_tokens=3, decoder_input_details=True)
    assert r.generated_text == "w0 w1 w2 " and r.details.generated_tokens == 3
    assert r.details.finish_reason == "length" and len(r.details.prefill) == 2
    r = tgi.generate("hi", max_new_tokens=3, do_sample=True, best_of=2)
    assert len(r.details.best_of_sequences) == 1
    seen = list(tgi.generate_stream("hi", max_new_tokens=3))
    assert "".join(x.token.text for x in seen if not x.token.special) == "w0 w1 w2 "
    assert seen[-1].generated_text == "w0 w1 w2 " and seen[-1].details.generated_tokens == 3


def test_own_client_errors(tgi):
    with pytest.raises(errors.OverloadedError):
        tgi.generate("busy", max_new_tokens=1)
    with pytest.raises(errors.GenerationError):
        tgi.generate("error", max_new_tokens=1)
    with pytest.raises(errors.ValidationError):
        tgi.generate("context", max_new_tokens=1)


def test_hub_client(hub):
    assert hub.text_generation("hi", max_new_tokens=3) == "w0 w1 w2 "
    r = hub.text_generation("hi", max_new_tokens=3, details=True)
    assert r.generated_text == "w0 w1 w2 " and r.details.finish_reason == "length"
    assert "".join(hub.text_generation("hi", max_new_tokens=3, stream=True)) == "w0 w1 w2 "
    seen = list(hub.text_generation("hi", max_new_tokens=3, stream=True, details=True))
    assert seen[-1].generated_text == "w0 w1 w2 " and seen[-1].details.generated_tokens == 3
    with pytest.raises(huggingface_hub.errors.OverloadedError):
        hub.text_generation("busy", max_new_tokens=1)


# ---- tokens, in three dialects -------------------------------------------------------------------

def test_tokenize_of_tgi(c):
    r = c.post("/tokenize", json={"inputs": "aé b"}).json()
    assert r[0] == {"id": 1, "text": "", "start": 0, "stop": 0}
    assert [(t["text"], t["start"], t["stop"]) for t in r[1:]] == [
        ("a", 0, 1), ("é", 1, 2), ("é", 1, 2), (" ", 2, 3), ("b", 3, 4)]
    r = c.post("/tokenize", json={"inputs": 1})
    assert r.status_code == 422 and r.json()["error_type"] == "validation"
    r = c.post("/chat_tokenize", json={"messages": [{"role": "user", "content": "hi"}]}).json()
    assert r["templated_text"] == "user:hi;assistant:"
    assert "".join(t["text"] for t in r["tokenize_response"]) == r["templated_text"]


def test_tokenize_of_vllm(c):
    r = c.post("/tokenize", json={"prompt": "ab", "return_token_strs": True}).json()
    assert r == {"count": 3, "max_model_len": 4096, "tokens": [1, 97, 98],
                 "token_strs": ["<s>", "a", "b"]}
    r = c.post("/tokenize", json={"prompt": "ab", "add_special_tokens": False}).json()
    assert r["tokens"] == [97, 98] and r["token_strs"] is None
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    r = c.post("/tokenize", json={"messages": turns}).json()
    assert r["count"] == len("_user:x;assistant:y;assistant:")
    r = c.post("/tokenize", json={"messages": turns, "add_generation_prompt": False,
                                  "continue_final_message": True}).json()
    assert r["count"] == len("_user:x;assistant:y")
    r = c.post("/tokenize", json={"messages": turns, "continue_final_message": True})
    assert r.status_code == 400 and r.json()["error"]["param"] == "continue_final_message"
    r = c.post("/tokenize", json={"prompt": "x", "model": "none"})
    assert r.status_code == 404 and r.json()["error"]["code"] == "model_not_found"


def test_tokenize_of_llamacpp(c):
    assert c.post("/tokenize", json={"content": "ab"}).json() == {"tokens": [97, 98]}
    r = c.post("/tokenize", json={"content": "é", "with_pieces": True}).json()
    assert r == {"tokens": [{"id": 195, "piece": [195]}, {"id": 169, "piece": [169]}]}
    assert c.post("/tokenize", json={}).json() == {"tokens": []}
    r = c.post("/detokenize", json={"tokens": [97, 98]}).json()
    assert r == {"content": "ab", "prompt": "ab"}
    r = c.post("/detokenize", json={"tokens": [999]})
    assert r.status_code == 400 and r.json()["error"]["type"] == "invalid_request_error"


# ---- of the real binary -------------------------------------------------------------------------

@pytest.fixture(scope="module")
def rc(real):
    with real.client(timeout=300) as client:
        yield client


def generate(rc, text=PROMPT, **kw):
    r = rc.post("/generate", json=body(text, **{"max_new_tokens": 12, **kw}))
    assert r.status_code == 200, r.text
    return r.json()


@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 0.9, "seed": 42}])
def test_same_text_as_openai(real, rc, sampling):
    """TGI reads raw text, as /v1/completions does."""
    ai = openai.OpenAI(base_url=real.base + "/v1", api_key="any", max_retries=0,
                       http_client=httpx.Client(trust_env=False, timeout=300))
    want = ai.completions.create(model="smollm2", prompt=PROMPT, max_tokens=12,
                                 **sampling).choices[0].text
    kw = sampling if sampling["temperature"] else {}
    assert generate(rc, **kw)["generated_text"] == want
    client = text_generation.Client(real.base, timeout=300)
    seen = list(client.generate_stream(PROMPT, max_new_tokens=12, **kw))
    assert "".join(x.token.text for x in seen) == want == seen[-1].generated_text
    assert client.generate(PROMPT, max_new_tokens=12, **kw).generated_text == want
    hub = huggingface_hub.InferenceClient(real.base, timeout=300)
    assert hub.text_generation(PROMPT, max_new_tokens=12, **kw) == want


def test_real_details(rc):
    r = generate(rc, decoder_input_details=True, top_n_tokens=2)
    d = r["details"]
    ids = rc.post("/tokenize", json={"inputs": PROMPT}).json()
    assert [t["id"] for t in d["prefill"]] == [t["id"] for t in ids]
    assert d["prefill"][0]["logprob"] is None and all(t["logprob"] < 0 for t in d["prefill"][1:])
    assert "".join(t["text"] for t in d["tokens"]) == r["generated_text"]
    for token, top in zip(d["tokens"], d["top_tokens"]):
        assert top[0]["id"] == token["id"] and top[0]["logprob"] >= top[1]["logprob"]
    assert r["generated_text"] == generate(rc)["generated_text"]


def test_real_logprobs_are_those_of_openai(rc):
    r = rc.post("/v1/completions", json={"prompt": PROMPT, "max_tokens": 4, "temperature": 0,
                                         "logprobs": 0, "echo": True}).json()
    want = r["choices"][0]["logprobs"]["token_logprobs"]
    d = generate(rc, decoder_input_details=True, max_new_tokens=4)["details"]
    got = [t["logprob"] for t in d["prefill"] + d["tokens"]]
    assert got[0] is None and got[1:] == pytest.approx(want[1:], abs=1e-4)


def test_real_end_of_sequence(rc):
    """The token that ended generation is told, and not part of the text."""
    chat = "<|im_start|>user\nSay yes.<|im_end|>\n<|im_start|>assistant\n"
    d = generate(rc, chat, max_new_tokens=200, details=True)
    last = d["details"]["tokens"][-1]
    assert d["details"]["finish_reason"] == "eos_token"
    assert last["special"] and last["text"] and last["text"] not in d["generated_text"]
    assert d["details"]["generated_tokens"] == len(d["details"]["tokens"])
    assert "".join(t["text"] for t in d["details"]["tokens"][:-1]) == d["generated_text"]
    with rc.stream("POST", "/generate_stream", json=body(chat, max_new_tokens=200)) as r:
        seen = records(r)
    assert seen[-1]["token"] == last and seen[-1]["generated_text"] == d["generated_text"]
    assert [x["token"]["id"] for x in seen] == [t["id"] for t in d["details"]["tokens"]]
    r = rc.post("/generate", json=body(chat, max_new_tokens=200))
    assert r.headers["x-generated-tokens"] == str(d["details"]["generated_tokens"])


def test_real_stop_is_in_the_text(rc):
    whole = generate(rc)["generated_text"]
    stop = whole[4:8]
    d = generate(rc, stop=[stop], details=True)
    assert d["generated_text"] == whole[:whole.index(stop) + len(stop)]
    assert d["details"]["finish_reason"] == "stop_sequence"
    with rc.stream("POST", "/generate_stream", json=body(PROMPT, stop=[stop, "zz"],
                                                        max_new_tokens=12)) as r:
        seen = records(r)
    assert "".join(x["token"]["text"] for x in seen) == d["generated_text"]


def test_real_truncate(rc):
    """The last tokens alone give what the truncated text gives."""
    ids = [t["id"] for t in rc.post("/tokenize", json={"inputs": PROMPT}).json()]
    want = rc.post("/v1/completions", json={"prompt": ids[-3:], "max_tokens": 8,
                                            "temperature": 0}).json()["choices"][0]["text"]
    r = rc.post("/generate", json=body(PROMPT, truncate=3, max_new_tokens=8))
    assert r.json()["generated_text"] == want and r.headers["x-prompt-tokens"] == "3"
    assert generate(rc, truncate=4000)["generated_text"] == generate(rc)["generated_text"]


def test_real_best_of(rc):
    d = generate(rc, do_sample=True, best_of=3, details=True, temperature=1.5)["details"]

    def mean(s):
        return sum(t["logprob"] for t in s["tokens"]) / len(s["tokens"])

    assert len(d["best_of_sequences"]) == 2
    assert all(mean(d) >= mean(s) for s in d["best_of_sequences"])


def test_real_spans(rc):
    text = "Grüße, 世界! 12345 👍 ok"
    spans = rc.post("/tokenize", json={"inputs": text}).json()
    assert spans[0]["start"] == 0 and spans[-1]["stop"] == len(text)
    for t in spans:
        assert t["text"] == text[t["start"]:t["stop"]]
    assert all(a["stop"] >= b["start"] for a, b in zip(spans, spans[1:]))
    r = rc.post("/chat_tokenize", json={"messages": [{"role": "user", "content": text}]}).json()
    prompt = rc.post("/apply-template", json={"messages": [{"role": "user", "content": text}]})
    assert r["templated_text"] == prompt.json()["prompt"]
    assert r["tokenize_response"][-1]["stop"] == len(r["templated_text"])
    assert [t["id"] for t in r["tokenize_response"]] == rc.post(
        "/tokenize", json={"messages": [{"role": "user", "content": text}]}).json()["tokens"]
    spans = rc.post("/tokenize", json={"model": "minilm", "inputs": "Hello worldly"}).json()
    assert "".join(t["text"] for t in spans) == "Hello worldly"


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.9, "seed": 42}])
def test_three_dialects_one_text(rc, sampling):
    """TGI gets what the template makes of the messages that the two others send."""
    turns = [{"role": "user", "content": "Name three colours."}]
    prompt = rc.post("/apply-template", json={"messages": turns}).json()["prompt"]
    chat = {"model": "smollm2", "messages": turns, "max_tokens": 16, "temperature": 0, **sampling}
    texts = {
        "openai": rc.post("/v1/chat/completions", json=chat).json()["choices"][0]["message"]["content"],
        "anthropic": rc.post("/v1/messages", json=chat).json()["content"][0]["text"],
        "tgi": generate(rc, prompt, max_new_tokens=16, **sampling)["generated_text"],
    }
    assert texts["openai"] and len(set(texts.values())) == 1, texts
