"""llama.cpp's own routes of the real binary, with smollm2 and minilm."""
import json

import pytest

PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def c(real):
    with real.client(timeout=300) as client:
        yield client


def complete(c, prompt=PROMPT, **kw):
    r = c.post("/completion", json={"prompt": prompt, "temperature": 0, "n_predict": 12, **kw})
    assert r.status_code == 200, r.text
    return r.json()


def stream(c, prompt=PROMPT, **kw):
    body = {"prompt": prompt, "temperature": 0, "n_predict": 12, "stream": True, **kw}
    with c.stream("POST", "/completion", json=body) as r:
        assert r.status_code == 200
        assert r.headers["content-type"].startswith("text/event-stream")
        lines = [x for x in r.iter_lines() if x and not x.startswith(":")]
    assert all(x.startswith("data: ") for x in lines)
    return [json.loads(x[6:]) for x in lines], lines


def refused(c, field, status=400, **kw):
    r = c.post("/completion", json={"prompt": "x", "n_predict": 1, **kw})
    e = r.json()["error"]
    assert r.status_code == status and e["code"] == status, r.text
    assert field in e["message"] and e["type"] == "invalid_request_error"


def ids(c, text, **kw):
    return c.post("/tokenize", json={"content": text, **kw}).json()["tokens"]


def test_whole(c):
    r = complete(c, return_tokens=True)
    assert r["stop"] is True and r["stop_type"] == "limit" and r["truncated"] is False
    assert r["tokens_predicted"] == 12 == len(r["tokens"])
    assert r["tokens_evaluated"] == len(ids(c, PROMPT, add_special=True))
    assert r["tokens_cached"] == r["tokens_evaluated"] + 11
    assert r["model"] and r["prompt"] == PROMPT and "Paris" in r["content"]
    assert r["generation_settings"]["n_predict"] == 12 and r["id_slot"] == 0
    assert r["has_new_line"] == ("\n" in r["content"])
    assert c.post("/detokenize", json={"tokens": r["tokens"]}).json()["content"] == r["content"]
    assert complete(c)["tokens"] == []


def test_timings(c):
    t = complete(c, cache_prompt=False)["timings"]
    assert t["cache_n"] == 0 and t["prompt_n"] == len(ids(c, PROMPT, add_special=True))
    assert t["predicted_n"] == 12
    for name in ("prompt", "predicted"):
        n, ms = t[name + "_n"], t[name + "_ms"]
        assert ms > 0
        assert t[name + "_per_token_ms"] == pytest.approx(ms / n, rel=1e-2)
        assert t[name + "_per_second"] == pytest.approx(n * 1000 / ms, rel=1e-2)
    t = complete(c)["timings"]
    assert t["cache_n"] + t["prompt_n"] == len(ids(c, PROMPT, add_special=True))


@pytest.mark.parametrize("path", ["/completion", "/completions"])
def test_token_prompt_is_the_text_prompt(c, path):
    tokens = ids(c, PROMPT, add_special=True)
    r = c.post(path, json={"prompt": tokens, "temperature": 0, "n_predict": 12}).json()
    assert r["content"] == complete(c)["content"]
    assert r["tokens_evaluated"] == len(tokens)
    assert PROMPT in r["prompt"]


def test_mixed_prompt(c):
    head, tail = PROMPT.split(" of ")
    r = complete(c, [head, *ids(c, " of"), " " + tail])
    assert r["content"] == complete(c)["content"]


def test_many_prompts(c):
    r = complete(c, [PROMPT, ids(c, "One, two, three,")])
    assert [x["index"] for x in r] == [0, 1]
    assert r[0]["content"] == complete(c)["content"]
    assert r[1]["tokens_evaluated"] == len(ids(c, "One, two, three,"))
    events, _ = stream(c, [PROMPT, "One, two, three,"])
    assert [x["index"] for x in events if x["stop"]] in ([0, 1], [1, 0])
    assert "".join(x["content"] for x in events if x["index"] == 0) == r[0]["content"]
    assert "".join(x["content"] for x in events if x["index"] == 1) == r[1]["content"]


def test_stream_is_the_whole(c):
    whole = complete(c, return_tokens=True)
    events, lines = stream(c, n_probs=1, timings_per_token=True)
    last = events.pop()
    assert '"stop":true' in lines[-1] and '"predicted_n":12' in lines[-1]
    assert all('"stop":false' in x for x in lines[:-1])
    assert len(events) == 12
    assert "".join(x["content"] for x in events) == whole["content"]
    assert [x["tokens"] for x in events] == [[t] for t in whole["tokens"]]
    assert [x["tokens_predicted"] for x in events] == list(range(1, 13))
    assert all(x["tokens_evaluated"] == whole["tokens_evaluated"] for x in events)
    assert all(x["completion_probabilities"][0]["id"] == x["tokens"][0] for x in events)
    assert all(x["timings"]["predicted_n"] == x["tokens_predicted"] for x in events)
    assert last["content"] == "" and last["stop_type"] == "limit"
    for key in ("tokens_predicted", "tokens_evaluated", "tokens_cached", "prompt", "model"):
        assert last[key] == whole[key]


def test_an_event_a_token_while_text_is_held_back(c):
    """A stop string that begins everywhere and never matches holds all text back."""
    text = complete(c)["content"]
    events, _ = stream(c, stop=[text + "never"])
    assert len([x for x in events if x["tokens"]]) == 12
    assert "".join(x["content"] for x in events) == text


def test_stop_strings(c):
    full = complete(c)["content"]
    word = full[5:8]
    r = complete(c, stop=["", word])
    assert r["content"] == full[:full.index(word)]
    assert r["stop_type"] == "word" and r["stopping_word"] == word
    events, _ = stream(c, stop=[word])
    assert "".join(x["content"] for x in events) == r["content"]
    assert events[-1]["stopping_word"] == word
    assert events[-1]["tokens_predicted"] == r["tokens_predicted"] == len(events) - 1


def test_end_of_generation(c):
    chat = c.post("/apply-template", json={"messages": [
        {"role": "user", "content": "Reply with the word yes."}]}).json()["prompt"]
    r = complete(c, chat, n_predict=200, stop=[])
    assert r["stop_type"] == "eos" and r["stopping_word"] == ""
    assert r["tokens_predicted"] < 200
    assert complete(c, chat, n_predict=r["tokens_predicted"] + 2,
                    ignore_eos=True)["stop_type"] == "limit"


def test_n_probs(c):
    r = complete(c, n_probs=3, n_predict=4, return_tokens=True)
    items = r["completion_probabilities"]
    assert [x["id"] for x in items] == r["tokens"]
    for x in items:
        assert len(x["top_logprobs"]) == 3 and x["logprob"] <= 0
        assert x["top_logprobs"][0]["id"] == x["id"]
        assert bytes(x["bytes"]).decode() == x["token"]
    assert "completion_probabilities" not in complete(c, n_predict=1)


def test_logit_bias(c):
    first = complete(c, n_predict=1, return_tokens=True)["tokens"][0]
    for bias in ([[first, False]], [[first, -100]], {str(first): -100}):
        other = complete(c, n_predict=1, return_tokens=True, logit_bias=bias)
        assert other["tokens"][0] != first
    wanted = ids(c, " banana")
    r = complete(c, n_predict=1, return_tokens=True, logit_bias=[[" banana", 100]])
    assert r["tokens"][0] in wanted


def test_seed(c):
    kw = dict(temperature=1.2, n_predict=16)
    assert complete(c, seed=3, **kw)["content"] == complete(c, seed=3, **kw)["content"]
    assert complete(c, seed=3, **kw)["content"] != complete(c, seed=4, **kw)["content"]
    assert complete(c, seed=3, samplers=["top_k", "temperature"], **kw)["content"]


def test_refused(c):
    refused(c, "grammar", grammar="root ::= \"x\"")
    refused(c, "json_schema", json_schema={"type": "object"})
    refused(c, "mirostat", mirostat=2)
    refused(c, "dry_multiplier", dry_multiplier=0.8)
    refused(c, "xtc_probability", xtc_probability=0.5)
    refused(c, "dynatemp_range", dynatemp_range=0.5)
    refused(c, "lora", lora=[{"id": 0, "scale": 1}])
    refused(c, "image_data", image_data=[{"data": "", "id": 1}])
    refused(c, "samplers", samplers=["temperature", "top_k"])
    refused(c, "n_predict", n_predict="many")
    refused(c, "vocabulary", prompt=[10_000_000])
    assert complete(c, n_predict=1, mirostat=0, dry_multiplier=0, grammar="", lora=[], whatever=1)


def test_errors(c):
    r = c.post("/completion", json={"prompt": "x", "model": "no-such-model"})
    assert r.status_code == 404 and r.json()["error"]["type"] == "not_found_error"
    r = c.post("/completion", json={"prompt": "word " * 20000})
    assert r.status_code == 400 and r.json()["error"]["type"] == "exceed_context_size_error"
    r = c.post("/completion", content=b"{")
    assert r.status_code == 400 and r.json()["error"]["code"] == 400
    assert c.post("/completion", json={}).status_code == 400


@pytest.mark.parametrize("text", ["Hello, world!", "héllo 🦊 naïve ½", "  spaces\n\n\ttabs ",
                                  "日本語とemoji 👩‍👩‍👧", ""])
def test_tokenize_round_trip(c, text):
    tokens = ids(c, text)
    assert c.post("/detokenize", json={"tokens": tokens}).json() == {"content": text, "prompt": text}
    pieces = ids(c, text, with_pieces=True)
    assert [p["id"] for p in pieces] == tokens
    raw = b"".join(p["piece"].encode() if isinstance(p["piece"], str) else bytes(p["piece"])
                   for p in pieces)
    assert raw == text.encode()


def test_tokenize_special(c):
    assert len(ids(c, "<|im_end|>")) == 1
    assert len(ids(c, "<|im_end|>", parse_special=False)) > 1
    bert = c.post("/tokenize", json={"model": "minilm", "content": "hello", "add_special": True})
    assert bert.json()["tokens"] == [101, 7592, 102]
    assert ids(c, ["a", 5, "b"]) == [*ids(c, "a"), 5, *ids(c, "b")]
    assert c.post("/tokenize", json={}).json() == {"tokens": []}
    assert c.post("/tokenize", json={"content": 5}).status_code == 400
    assert c.post("/detokenize", json={"tokens": [-1]}).status_code == 400
    assert c.post("/detokenize", json={"tokens": [10_000_000]}).status_code == 400


def test_props(c):
    p = c.get("/props").json()
    settings = p["default_generation_settings"]
    assert settings["n_ctx"] > 0 and settings["params"]["temperature"] == pytest.approx(0.8)
    assert settings["params"]["top_k"] == 40
    assert p["total_slots"] >= 1 and p["model_path"] == "smollm2"
    assert "im_start" in p["chat_template"] and p["is_sleeping"] is False
    assert p["modalities"] == {"vision": False, "audio": False} and p["build_info"]
    r = c.get("/slots")
    assert r.status_code == 501 and r.json()["error"]["type"] == "not_supported_error"
    assert c.get("/health").json() == {"status": "ok"}


def test_apply_template(c):
    messages = [{"role": "user", "content": "Say hi."}]
    prompt = c.post("/apply-template", json={"messages": messages}).json()["prompt"]
    assert "Say hi." in prompt and prompt.endswith("<|im_start|>assistant\n")
    chat = c.post("/v1/chat/completions", json={"messages": messages, "temperature": 0,
                                                "max_tokens": 8}).json()
    assert complete(c, prompt, n_predict=8)["content"] == chat["choices"][0]["message"]["content"]
    assert c.post("/apply-template", json={}).status_code == 400
