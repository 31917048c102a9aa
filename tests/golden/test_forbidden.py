"""What a request forbids never comes: tokens outside allowed_token_ids, and the token runs of bad_words.
Random lists and settings on tiny models, guesses and company included."""
import concurrent.futures
import os
import random
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))

import mkmodel  # noqa: E402

MODELS = ["llama-Q4_0", "qwen3-F32", "smollm2"]


@pytest.fixture(scope="module", params=MODELS)
def served(request, tmp_path_factory):
    from conftest import start_real  # the fixtures' own start, for a whole module

    source = request.param
    if source != "smollm2":
        source = str(tmp_path_factory.mktemp("models") / source)
        mkmodel.write(source, request.param, context=2048)
    server = start_real("--model", source, env={"SLUICE_ENGINE_SPECULATION": "6"})
    server.models = [request.param]
    yield server
    server.stop()


def post(server, route, **body):
    with server.client(timeout=300) as http:
        answer = http.post(route, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()


def settings(rng):
    return {"temperature": rng.choice([0, 0.7, 1.5]), "top_p": rng.choice([1, 0.8]), "top_k": rng.choice([0, 5, 40]),
            "min_p": rng.choice([0, 0.05]), "repetition_penalty": rng.choice([1, 1.2]), "seed": rng.randrange(1000),
            "n": rng.choice([1, 2]), "max_tokens": 24, "return_token_ids": True}


def complete(server, rng, **more):
    prompt = [rng.randrange(4, 200) for _ in range(rng.randrange(3, 30))] * rng.choice([1, 3])
    return post(server, "/v1/completions", prompt=prompt, **{**settings(rng), **more})


def has_run(ids, run):
    return any(ids[i:i + len(run)] == run for i in range(len(ids)))


def test_allowed_tokens(served):
    def check(seed):
        rng = random.Random(seed)
        allowed = [rng.randrange(0, 250) for _ in range(rng.choice([1, 2, 7, 40]))]
        answer = complete(served, rng, allowed_token_ids=allowed, min_tokens=rng.choice([0, 8]))
        for choice in answer["choices"]:
            assert set(choice["token_ids"]) <= set(allowed), (seed, choice)

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(check, range(40)))


def runs_of(server, word):
    """The token runs that vLLM forbids for a word."""
    word = word.lstrip()
    plain = post(server, "/tokenize", content=word)["tokens"]
    spaced = post(server, "/tokenize", content=" " + word)["tokens"]
    return [plain] + ([spaced] if len(spaced) == len(plain) and spaced[0] != plain[0] else [])


def test_bad_words(served):
    def check(seed):
        rng = random.Random(seed)
        free = complete(served, random.Random(seed), n=1)["choices"][0]["token_ids"]
        words = []
        for _ in range(rng.choice([1, 3])):
            at, count = rng.randrange(len(free)), rng.choice([1, 1, 2, 3])
            words.append(post(served, "/detokenize", tokens=free[at:at + count])["content"].strip())
        words = [w for w in words if w and "\ufffd" not in w]
        if not words:
            return 0
        answer = complete(served, random.Random(seed), bad_words=words, ignore_eos=True)
        for choice in answer["choices"]:
            for run in (r for w in words for r in runs_of(served, w)):
                assert not has_run(choice["token_ids"], run), (seed, words, run, choice)
        return sum(has_run(free, run) for w in words for run in runs_of(served, w))

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        hits = sum(pool.map(check, range(40)))
    # Words that would have come; the tiny models' tokens cannot be spelled, but for control tokens.
    assert hits >= 5 or "smollm2" not in served.models


def test_one_word(served):
    """A token that greedy decoding would take next is not taken."""
    body = {"prompt": [5, 6, 7], "temperature": 0, "max_tokens": 1, "return_token_ids": True, "ignore_eos": True}
    first = post(served, "/v1/completions", **body)["choices"][0]["token_ids"]
    other = [t for t in range(250) if t not in first]
    assert post(served, "/v1/completions", **body, allowed_token_ids=other)["choices"][0]["token_ids"] != first
    assert post(served, "/v1/completions", **body, allowed_token_ids=first)["choices"][0]["token_ids"] == first


def test_refusals(served):
    with served.client() as http:
        for change in ({"allowed_token_ids": [10**7]}, {"allowed_token_ids": []}, {"bad_words": [""]},
                       {"bad_words": [5]}, {"bad_words": ["   "]}, {"allowed_token_ids": "x"}):
            answer = http.post("/v1/completions", json={"prompt": "x", **change})
            assert answer.status_code == 400 and next(iter(change)) in answer.text, answer.text
