"""The same request gives the same bytes, whatever happens around it: company, chunks, threads, cached
beginnings, preemption, guesses. Text and logprobs are compared exactly."""
import concurrent.futures
import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))

import mkmodel  # noqa: E402

BLOCK = 16
# Layers, KV heads, width of a head: what a KV block of 16 tokens takes.
SHAPES = {"smollm2": (30, 3, 64), "llama-Q4_0": (2, 2, 64), "qwen3-F32": (2, 2, 128), "gemma3-F32": (7, 2, 128)}
# auto: pairs of BF16 where the processor multiplies them and the model's products are rounded, else f16.
CASES = [(m, kv) for m in SHAPES for kv in ("auto", "q8_0")] + [("smollm2", "f16")]
SAMPLED = {"temperature": 0.9, "top_p": 0.95, "seed": 7}
WORDS = ("river stone bread water light house green after before under small white people often never quiet "
         "market winter summer letter window garden answer between morning evening children however").split()


def block_bytes(model, kv):
    layers, heads, width = SHAPES[model]
    return layers * heads * (width // 32 * 2 * (2 * BLOCK + 32 * BLOCK) if kv == "q8_0" else width * BLOCK * 4)


def prompt(model, count, salt):
    """Some `count` tokens of free text; those of one salt begin alike. Ids for tiny models, which know no words."""
    state, out = salt * 7919 + 1, []
    for _ in range(count):
        state = (state * 1103515245 + 12345) % 2**31
        out.append(state >> 8)
    if model == "smollm2":
        return " ".join(WORDS[x % len(WORDS)] for x in out)
    return [1] + [x % 280 + 4 for x in out[1:]]


def quoting(model, count):
    """A prompt that repeats itself, for guesses by lookup."""
    if model == "smollm2":
        line = "The quick brown fox jumps over the lazy dog, and the dog sleeps on. "
        return line * (count // 16)
    return ([1] + [i * 31 % 280 + 4 for i in range(23)]) * (count // 24)


def requests(model):
    """Short and long, greedy and sampled; over 512 and 1,024 positions attention goes in segments."""
    small = model == "smollm2"
    sizes = [(3, 1), (40, 1), (130, 1), (330, 2), (600, 3), (1150, 3)]
    out = [{"prompt": prompt(model, n, salt), "max_tokens": 12 if small else 24, "temperature": 0}
           for n, salt in sizes]
    out += [{"prompt": quoting(model, 560), "max_tokens": 24, "temperature": 0}]
    out += [{**r, **SAMPLED} for r in (out[1], out[4], out[6])]
    return [{"ignore_eos": True, **r} for r in out]


@pytest.fixture
def serve(tmp_path, real_factory):
    """serve(model, kv, ...) starts a server; tiny models get a context of 2,048."""

    def make(model, kv, threads=2, **env):
        source = model
        if model != "smollm2":
            source = str(tmp_path / model)
            if not os.path.exists(source):
                mkmodel.write(source, model, context=2048)
        return real_factory("--model", source, "--threads", str(threads),
                            env={"SLUICE_KV_TYPE": kv, **{"SLUICE_" + k: str(v) for k, v in env.items()}})

    return make


def ask(server, body, **more):
    with server.client(timeout=300) as http:
        answer = http.post("/v1/completions", json={**body, **more})
        assert answer.status_code == 200, answer.text
        return answer.json()


def said(answer):
    """What must not change."""
    return [(c["index"], c["text"], c["finish_reason"], c["logprobs"]) for c in answer["choices"]]


def cached(answer):
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def together(server, bodies, **more):
    with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(lambda b: ask(server, b, **more), bodies))


def alone(server, bodies, **more):
    return [ask(server, b, **more) for b in bodies]


def metric(server, name):
    with server.client() as http:
        for line in http.get("/metrics").text.splitlines():
            if line.startswith(name) and line[len(name)] in " {":
                return float(line.rsplit(" ", 1)[1])
    raise AssertionError(f"no metric {name}")


@pytest.mark.parametrize("model,kv", CASES)
def test_company_chunks_threads_and_cache_do_not_change_a_byte(serve, model, kv):
    bodies = requests(model)
    want = []
    server = serve(model, kv, threads=1, ENGINE_STEP_TOKENS=512)
    for i, body in enumerate(bodies):
        answer = ask(server, body, logprobs=2)
        want.append(said(answer))
        again = ask(server, body, logprobs=2)
        assert said(again) == want[i]
        assert cached(again) == (again["usage"]["prompt_tokens"] - 1) // BLOCK * BLOCK
    assert len({w[0][1] for w in want}) > 5
    server.stop()
    for step in (16, 64, 512):
        server = serve(model, kv, ENGINE_STEP_TOKENS=step, ENGINE_SEQUENCES=12)
        assert [said(a) for a in together(server, bodies, logprobs=2)] == want, step
        assert [said(a) for a in together(server, bodies[::-1], logprobs=2)] == want[::-1], step
        server.stop()


@pytest.mark.parametrize("model,kv", CASES)
def test_guesses_do_not_change_a_byte(serve, model, kv):
    """Greedy and sampled, on text that repeats itself and on free text, with stops inside a guess."""
    long = 48 if model == "smollm2" else 96
    bodies = [{"prompt": p, "max_tokens": long, "ignore_eos": True, **s}
              for p in (quoting(model, 320), prompt(model, 60, 4), prompt(model, 530, 5))
              for s in ({"temperature": 0}, SAMPLED)]
    server = serve(model, kv)
    want = [said(a) for a in alone(server, bodies, spec_tokens=-1)]
    text = want[0][0][1]
    stop = text[len(text) // 2:len(text) // 2 + 3]
    bodies.append({**bodies[0], "stop": [stop]})
    want.append(said(ask(server, bodies[-1], spec_tokens=-1)))
    assert metric(server, "sluice_spec_decode_num_draft_tokens_total") == 0
    for spec in (2, 15):
        assert [said(a) for a in alone(server, bodies, spec_tokens=spec)] == want, spec
    server.stop()
    server = serve(model, kv, threads=1, ENGINE_SPECULATION=8)
    assert [said(a) for a in together(server, bodies)] == want
    assert [said(a) for a in together(server, bodies)] == want
    guessed, right = (metric(server, f"sluice_spec_decode_num_{x}_tokens_total") for x in ("draft", "accepted"))
    assert guessed > right > 0, "the test is to see right guesses and wrong ones"


@pytest.mark.parametrize("model,kv", CASES)
def test_a_pool_an_eighth_of_the_load_loses_nothing(serve, model, kv):
    """Requests whose blocks do not fit together: some are preempted and computed again, all end, and none
    says anything else than it says alone."""
    out = 60 if model == "smollm2" else 120
    bodies = [{"prompt": prompt(model, 20 + 6 * n, n % 5), "max_tokens": out, "ignore_eos": True,
               **(SAMPLED if n % 2 else {"temperature": 0})} for n in range(16)]
    big = serve(model, kv)
    answers = alone(big, bodies, spec_tokens=-1)
    want = [said(a) for a in answers]
    big.stop()
    blocks = [(a["usage"]["prompt_tokens"] + out + BLOCK - 1) // BLOCK for a in answers]
    pool = max(sum(blocks) // 8, max(blocks))
    small = serve(model, kv, KV_MEMORY=f"{pool * block_bytes(model, kv) // 1024}KiB", ENGINE_SPECULATION=6)
    assert [said(a) for a in together(small, bodies)] == want
    assert metric(small, "sluice_num_preemptions_total") > 0, "the test is to see preemption"
    assert metric(small, "sluice_num_requests_running") == 0
    assert metric(small, "sluice_kv_cache_usage_perc") == 0


def test_cached_tokens_are_told_once(serve):
    server = serve("llama-Q4_0", "f16")

    def counters():
        return [metric(server, f"sluice_prefix_cache_{x}_total") for x in ("hits", "queries")]

    def moved(body, hits, queries):
        before = counters()
        answer = ask(server, {"temperature": 0, "max_tokens": 4, "ignore_eos": True, **body})
        assert answer["usage"]["prompt_tokens"] == queries
        assert cached(answer) == hits
        assert [b - a for a, b in zip(before, counters())] == [hits, queries]

    text = prompt("llama-Q4_0", 400, 1)
    moved({"prompt": text[:100]}, 0, 100)
    moved({"prompt": text[:100]}, 96, 100)  # six whole blocks, and a token is left to compute
    moved({"prompt": text[:97]}, 96, 97)
    moved({"prompt": text[:96]}, 80, 96)
    moved({"prompt": text[:15]}, 0, 15)
    moved({"prompt": text}, 96, 400)
    moved({"prompt": text, "n": 2}, 384, 400)  # once for both choices
    moved({"prompt": prompt("llama-Q4_0", 200, 2), "n": 2, "temperature": 1}, 0, 200)
    moved({"prompt": [text[:50], text[:80]]}, 48 + 64, 130)
    moved({"prompt": text[1:101]}, 0, 100)  # the same tokens at other positions are another text


def test_eight_at_once_compute_a_shared_beginning_once(serve):
    """A 400-token beginning, eight ends: who comes later waits for the blocks of who came first."""
    server = serve("llama-Q4_0", "f16", ENGINE_STEP_TOKENS=64)
    text = prompt("llama-Q4_0", 400, 1)
    bodies = [{"prompt": text + prompt("llama-Q4_0", 20 + n, 10 + n), "temperature": 0, "max_tokens": 8,
               "ignore_eos": True} for n in range(8)]
    total = sum(len(b["prompt"]) for b in bodies)
    answers = together(server, bodies)
    assert sorted(cached(a) for a in answers) == [0] + [400] * 7
    computed = metric(server, "sluice_prefix_cache_queries_total") - metric(server, "sluice_prefix_cache_hits_total")
    assert computed == total - 7 * 400
    assert [said(a) for a in alone(server, bodies)] == [said(a) for a in answers]


def test_an_echo_that_is_preempted_is_told_once(tmp_path, real_factory):
    """Prompts echoed with logprobs while the pool holds two of eight: a prompt that is computed again is not
    delivered again."""
    path = str(tmp_path / "m.gguf")
    mkmodel.write(path, "llama-F32")
    # Six rows of logits a step: a prompt takes many steps, while others grow.
    small = {"SLUICE_KV_MEMORY": "512KiB", "SLUICE_ENGINE_CONTEXT": "256", "SLUICE_ENGINE_SEQUENCES": "6"}
    server = real_factory("--model", path, env=small)

    def echo(n):
        body = {"prompt": [1] + [(i * 37 + n) % 284 + 3 for i in range(59 + n * 12)], "max_tokens": 100, "echo": True,
                "logprobs": 1, "temperature": 0, "ignore_eos": True}
        return ask(server, body)["choices"][0]["logprobs"]

    apart = [echo(n) for n in range(8)]
    assert [len(a["tokens"]) for a in apart] == [160 + n * 12 for n in range(8)]
    for _ in range(5):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert list(pool.map(echo, range(8))) == apart
    assert metric(server, "sluice_num_preemptions_total") > 0, "the test is to see preemption"
