"""Limits and the ledger, through the real binary and the official client."""
import concurrent.futures
import json
import os
import signal
import threading
import time

import httpx
import openai
import pytest

from conftest import sluice

CONFIG = """
prices:
  - {{model: "smollm*", input: 1.0, cached_input: 0.5, output: 2.0, until: {today}}}
  - {{model: "smollm*", input: 10.0, cached_input: 5.0, output: 20.0, from: {today}}}
limits:
  output_default: 24
  models:
    - {{model: smollm2{limits}}}
"""


@pytest.fixture
def data(tmp_path):
    """A data directory of its own, with the models of the shared one."""
    source = os.environ.get("SLUICE_DATA")
    if not source:
        pytest.skip("SLUICE_DATA is not set")
    (tmp_path / "data").mkdir()
    os.symlink(os.path.join(source, "models"), tmp_path / "data" / "models")
    return tmp_path / "data"


@pytest.fixture
def limited(real_factory, tmp_path, data):
    def make(limits):
        path = tmp_path / "config.yaml"
        path.write_text(CONFIG.format(today=time.strftime("%Y-%m-%d", time.gmtime()), limits=limits))
        server = real_factory("--config", str(path), "--data", str(data), "--model", "smollm2", "--model", "minilm")
        server.data, server.config = data, path
        return server

    return make


def ask(http, **fields):
    return http.post("/v1/completions", json={"model": "smollm2", "prompt": "One two three", "max_tokens": 8,
                                              "ignore_eos": True, **fields})


def usage(server, requests, by="model"):
    """The rows once so many requests are in the database: others see them within a moment."""
    deadline = time.time() + 10
    while True:
        rows = json.loads(sluice("usage", "--by", by, "--json", "--since", "1h", "--data", str(server.data),
                                 "--config", str(server.config)).stdout)
        if sum(r["requests"] for r in rows) >= requests or time.time() > deadline:
            return rows


def test_requests_per_day(limited):
    server = limited(", rpd: 3")
    client = openai.OpenAI(base_url=server.base + "/v1", api_key="x", max_retries=0)
    with server.client() as http:
        for left in (2, 1, 0):
            answer = ask(http)
            assert answer.status_code == 200
            assert answer.headers["x-ratelimit-limit-requests"] == "3"
            assert answer.headers["x-ratelimit-remaining-requests"] == str(left)
    with pytest.raises(openai.RateLimitError) as error:
        client.completions.create(model="smollm2", prompt="x")
    assert error.value.code == "rate_limit_exceeded"
    assert int(error.value.response.headers["retry-after"]) <= 86400
    assert client.embeddings.create(model="minilm", input="free").data  # the limit is the other model's


def test_tokens_to_the_token(limited):
    server = limited(", tpd: 400")
    with server.client() as http:
        first = ask(http)
        counts = first.json()["usage"]
        assert counts["completion_tokens"] == 8
        assert first.headers["x-ratelimit-remaining-tokens"] == str(400 - counts["total_tokens"])
        # A stop long before the maximum: the rest comes back.
        prompt = counts["prompt_tokens"]
        stopped = ask(http, max_tokens=200, stop=[" "])
        assert stopped.headers["x-ratelimit-remaining-tokens"] == str(400 - counts["total_tokens"] - prompt - 200)
        used = counts["total_tokens"] + stopped.json()["usage"]["total_tokens"]
        third = ask(http)
        assert third.headers["x-ratelimit-remaining-tokens"] == str(400 - used - prompt - 8)
        refused = ask(http, max_tokens=401)
        assert refused.status_code == 429
        assert refused.headers["x-should-retry"] == "false"
        # Nobody said how much: the default bounds it.
        open_end = ask(http, max_tokens=None)
        assert open_end.json()["usage"]["completion_tokens"] <= 24


def test_race(limited):
    server = limited(", tpd: 500")
    with server.client(limits=httpx.Limits(max_connections=64)) as http:
        prompt = ask(http).json()["usage"]["prompt_tokens"]
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            answers = list(pool.map(lambda _: ask(http, max_tokens=12), range(200)))
    won = [a for a in answers if a.status_code == 200]
    assert {a.status_code for a in answers} == {200, 429}
    total = prompt + 8 + sum(a.json()["usage"]["total_tokens"] for a in won)
    assert total <= 500
    assert usage(server, len(won) + 1)[0]["requests"] == len(won) + 1


def test_cancel_gives_back(limited):
    server = limited(", tpd: 5000, concurrency: 1")
    with server.client() as http:
        with http.stream("POST", "/v1/completions", json={"model": "smollm2", "prompt": "Tell", "max_tokens": 4000,
                                                          "ignore_eos": True, "stream": True}) as stream:
            lines = stream.iter_lines()  # kept: a reader that is thrown away closes the stream
            next(lines)
            assert ask(http).status_code == 429  # one at a time
        deadline = time.time() + 20
        while (answer := ask(http)).status_code == 429 and time.time() < deadline:
            time.sleep(0.02)
        assert answer.status_code == 200
        assert int(answer.headers["x-ratelimit-remaining-tokens"]) > 4000
    rows = usage(server, 2, "outcome")
    assert {r["outcome"]: r["requests"] for r in rows} == {"cancelled": 1, "length": 1}


def test_ledger_equals_answers(limited):
    server = limited("")
    sums = {"prompt": 0, "cached": 0, "output": 0}
    with server.client() as http:
        for i in range(6):
            u = ask(http, prompt="The same long beginning of a prompt that is cached. " * 3 + str(i % 2)).json()["usage"]
            sums["prompt"] += u["prompt_tokens"]
            sums["cached"] += u["prompt_tokens_details"]["cached_tokens"]
            sums["output"] += u["completion_tokens"]
        start = int(time.time()) - 3600
        page = http.get("/v1/organization/usage/completions", params={"start_time": start, "bucket_width": "1d",
                                                                        "group_by": ["model"]}).json()
        costs = http.get("/v1/organization/costs", params={"start_time": start}).json()
        assert http.get("/v1/organization/costs").json()["error"]["param"] == "start_time"
    results = [r for b in page["data"] for r in b["results"]]
    assert len(results) == 1 and results[0]["model"] == "smollm2" and results[0]["num_model_requests"] == 6
    assert results[0]["input_tokens"] == sums["prompt"] and results[0]["input_cached_tokens"] == sums["cached"] > 0
    assert results[0]["output_tokens"] == sums["output"]
    expected = ((sums["prompt"] - sums["cached"]) * 10 + sums["cached"] * 5 + sums["output"] * 20) / 1e6
    spent = sum(r["amount"]["value"] for b in costs["data"] for r in b["results"])
    assert spent == pytest.approx(expected, abs=1e-9)
    row = usage(server, 6)[0]
    assert row["cost_usd"] == pytest.approx(expected, abs=1e-9)
    assert row["fresh_tokens"] + row["cached_tokens"] == sums["prompt"]


def test_kill_loses_nothing(limited):
    """What was answered is in the ledger and in the counters, however the process ended."""
    server = limited(", rpd: 1000, tpd: 100000")
    answered = []

    def work():
        with server.client() as http:
            while True:
                try:
                    a = ask(http, max_tokens=2)
                except Exception:
                    return
                if a.status_code == 200:
                    answered.append(a.json()["usage"]["total_tokens"])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    while len(answered) < 60:
        time.sleep(0.005)
    server.stop(signal.SIGKILL)
    for t in threads:
        t.join()
    again = limited(", rpd: 1000, tpd: 100000")
    row = usage(again, len(answered))[0]
    assert len(answered) <= row["requests"] <= len(answered) + 4
    assert row["fresh_tokens"] + row["cached_tokens"] + row["output_tokens"] >= sum(answered)
    with again.client() as http:
        after = ask(http)
    assert int(after.headers["x-ratelimit-remaining-requests"]) <= 1000 - len(answered) - 1
    assert int(after.headers["x-ratelimit-remaining-tokens"]) <= 100000 - sum(answered)


def test_budget(real_factory, tmp_path, data):
    """Money, from `key create --budget` to the refusal, over a restart, and to a budget that was raised."""
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(today=time.strftime("%Y-%m-%d", time.gmtime()), limits=""))
    args = ["--config", str(path), "--data", str(data), "--model", "smollm2", "--api-key", "boss"]

    def make(name, *more):
        return json.loads(sluice("key", "create", name, "--json", "--data", str(data), *more).stdout)["key"]

    poor, rich = make("poor", "--budget", "0.0006"), make("rich")
    server = real_factory(*args)

    def call(key, **fields):
        with server.client(headers={"Authorization": "Bearer " + key}) as http:
            return ask(http, **fields)

    first = call(poor)
    used = first.json()["usage"]
    # Dollars per million: 10 for what is new of a prompt, 5 for what was cached, 20 for output.
    cached = used["prompt_tokens_details"]["cached_tokens"]
    spent = (used["prompt_tokens"] - cached) * 10e-6 + cached * 5e-6 + used["completion_tokens"] * 20e-6
    assert first.status_code == 200 and 0 < spent < 0.0003
    # Reserved is what it may cost: too much for what is left, though it would stop after a word.
    refused = call(poor, max_tokens=40, stop=[" "])
    assert refused.status_code == 429 and refused.json()["error"]["code"] == "insufficient_quota", refused.text
    count = 1
    while (answer := call(poor)).status_code == 200 and count < 10:
        count += 1
    assert answer.status_code == 429 and answer.json()["error"]["type"] == "insufficient_quota"
    assert answer.headers["x-should-retry"] == "false"
    assert count == int(0.0006 / spent)
    with pytest.raises(openai.RateLimitError) as error:
        openai.OpenAI(base_url=server.base + "/v1", api_key=poor, max_retries=0).completions.create(
            model="smollm2", prompt="One two three", max_tokens=8)
    assert error.value.code == "insufficient_quota"
    assert call(rich).status_code == 200
    server.stop()
    server = real_factory(*args)
    assert call(poor).status_code == 429
    with server.client(headers={"Authorization": "Bearer boss"}) as http:
        assert http.post("/admin/keys/poor", json={"budget_usd": 1}).status_code == 200
    assert call(poor).status_code == 200
    server.data, server.config = data, path
    rows = {r["key"]: r for r in usage(server, count + 2, by="key")}
    costs = sorted(r["cost_usd"] for r in rows.values())
    assert costs[1] == pytest.approx(spent * (count + 1), rel=0.02) and costs[0] < costs[1]


def test_deadline_in_the_queue(limited, monkeypatch):
    """Who waited too long for its turn is refused, charged nothing, and told when to come again."""
    monkeypatch.setenv("SLUICE_ENGINE_SEQUENCES", "1")
    monkeypatch.setenv("SLUICE_ENGINE_DEADLINE_MS", "40")
    server = limited(", rpd: 1000, tpd: 100000")
    body = {"model": "smollm2", "prompt": "One two three", "max_tokens": 400, "ignore_eos": True, "stream": True}
    with server.client() as http, server.client() as other, http.stream("POST", "/v1/completions", json=body) as first:
        lines = first.iter_lines()
        next(lines)  # it has begun, and takes longer than the others may wait
        for fields in ({}, {"n": 2}):
            late = ask(other, **fields)
            assert late.status_code == 503 and "engine.deadline_ms" in late.json()["error"]["message"], late.text
            assert int(late.headers["Retry-After"]) >= 1 and int(late.headers["retry-after-ms"]) > 0
        late = other.post("/api/generate", json={"model": "smollm2", "prompt": "x"})
        assert late.status_code == 503 and "error" in late.json()
    with server.client() as http:
        end = time.time() + 30
        while (last := ask(http)).status_code == 503 and time.time() < end:
            pass  # the first one, whose client left, still ends; those that were refused cost nothing
        assert last.status_code == 200
        assert int(last.headers["x-ratelimit-remaining-requests"]) == 998
    rows = usage(server, 2, by="outcome")
    assert sum(r["requests"] for r in rows) == 2, rows


def test_reload(limited):
    """SIGHUP: limits and prices change, all or nothing; what cannot change is named."""
    server = limited(", rpd: 1")
    with server.client() as http:
        assert ask(http).status_code == 200
        assert ask(http).status_code == 429
        text = server.config.read_text()
        server.config.write_text(text.replace("rpd: 1", "rpd: 3") + "kv: {memory: 64MiB}\n")
        server.process.send_signal(signal.SIGHUP)
        assert "kv.memory" in server.wait_for("config.not_reloaded")["error"]
        server.config.write_text(text.replace("rpd: 1", "rpd: 3") + "auth: {lockout: {failures: 9}}\n")
        server.process.send_signal(signal.SIGHUP)
        assert "auth.lockout.failures" in server.wait_for("config.not_reloaded")["error"]
        assert ask(http).status_code == 429  # nothing changed
        server.config.write_text(text.replace("rpd: 1", "rpd: 3"))
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("config.reloaded")
        assert ask(http).status_code == 200
        assert ask(http).headers["x-ratelimit-remaining-requests"] == "0"
        server.config.write_text(text + "no_such_key: 1\n")
        server.process.send_signal(signal.SIGHUP)
        assert "no_such_key" in server.wait_for("config.not_reloaded")["error"]
