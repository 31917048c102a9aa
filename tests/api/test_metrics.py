"""Metrics: what a scrape says, in both formats, to clients and to promtool; the names of other servers; and
that the page of all metrics is true."""
import os
import re
import subprocess
import time

import pytest

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")
CONFIG = """
metrics: {{compat: [{compat}]}}
prices: [{{model: "smollm*", input: 1.0, cached_input: 0.5, output: 2.0}}]
limits:
  output_default: 24
  models: [{{model: smollm2, request_tokens: 2000}}]
"""
SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


@pytest.fixture
def make(real_factory, tmp_path):
    source = os.environ.get("SLUICE_DATA")
    if not source:
        pytest.skip("SLUICE_DATA is not set")
    (tmp_path / "data").mkdir()
    os.symlink(os.path.join(source, "models"), tmp_path / "data" / "models")

    def make(compat=""):
        path = tmp_path / "config.yaml"
        path.write_text(CONFIG.format(compat=compat))
        return real_factory("--config", str(path), "--data", str(tmp_path / "data"), "--model", "smollm2",
                            "--model", "minilm")

    return make


def use(server):
    """A request of each kind; returns the sums of what they used."""
    prompt = "A beginning long enough to fill a few blocks of the cache, told twice. " * 3
    sums = {"fresh": 0, "cached": 0, "output": 0}
    with server.client() as http:
        for n in (1, 1, 2):
            body = {"model": "smollm2", "prompt": prompt, "max_tokens": 6, "ignore_eos": True, "n": n}
            u = http.post("/v1/completions", json=body).json()["usage"]
            sums["cached"] += u["prompt_tokens_details"]["cached_tokens"]
            sums["fresh"] += u["prompt_tokens"] - u["prompt_tokens_details"]["cached_tokens"]
            sums["output"] += u["completion_tokens"]
        assert http.post("/v1/embeddings", json={"input": "text", "model": "minilm"}).status_code == 200
        assert http.post("/v1/completions", json={"prompt": "x", "max_tokens": 5000}).status_code == 429
        assert http.post("/v1/completions", json={"model": "none", "prompt": "x"}).status_code == 404
        assert http.get("/nowhere").status_code == 404
    return sums


def scrape(server, **headers):
    with server.client() as http:
        answer = http.get("/metrics", headers=headers)
    assert answer.status_code == 200
    return answer


def samples(text):
    """{(name, frozenset of labels): value}"""
    out = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, labels, value = SAMPLE.match(line).groups()
            key = name, frozenset(LABEL.findall(labels or ""))
            assert key not in out, line
            out[key] = float(value)
    return out


def total(found, name, **labels):
    hits = [v for (n, have), v in found.items() if n == name and set(labels.items()) <= have]
    assert hits, f"no {name} {labels}"
    return sum(hits)


def families(text):
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))


def promtool(*args, stdin=None):
    return subprocess.run(["promtool", *args], input=stdin, capture_output=True, text=True, timeout=120)


def test_counts_are_what_clients_were_told(make):
    server = make()
    sums = use(server)
    found = samples(scrape(server).text)
    for bucket, count in sums.items():
        assert total(found, "sluice_tokens_total", model_name="smollm2", bucket=bucket) == count > 0
    route = "/v1/completions"
    assert total(found, "sluice_model_requests_total", model_name="smollm2", route=route, outcome="ok") == 3
    assert total(found, "sluice_model_requests_total", model_name="smollm2", route=route, outcome="refused") == 1
    assert total(found, "sluice_model_requests_total", model_name="unknown", outcome="refused") == 1
    assert total(found, "sluice_limit_refusals_total", model_name="smollm2", limit="request_tokens") == 1
    assert total(found, "sluice_request_errors_total", model_name="unknown", code="model_not_found") == 1
    assert total(found, "sluice_http_requests_total", route=route, method="POST", status="200") == 3
    assert total(found, "sluice_http_requests_total", route="none", status="404") == 1
    assert not [k for k in found if "nowhere" in str(k) or '"none"' in str(k[1] - {("route", "none")})]
    cost = (sums["fresh"] * 1.0 + sums["cached"] * 0.5 + sums["output"] * 2.0) / 1e6
    assert total(found, "sluice_cost_dollars_total", model_name="smollm2") == pytest.approx(cost, rel=1e-9)
    for name in ("time_to_first_token", "request_queue_time", "request_prefill_time", "request_decode_time",
                 "request_inference_time", "e2e_request_latency", "request_time_per_output_token"):
        labels = dict(model_name="smollm2", route=route)
        assert total(found, f"sluice_{name}_seconds_count", **labels) == 3
        assert total(found, f"sluice_{name}_seconds_bucket", le="+Inf", **labels) == 3
        assert total(found, f"sluice_{name}_seconds_bucket", le="0.001", **labels) <= 3
    assert total(found, "sluice_inter_token_latency_seconds_count", model_name="smollm2") == 4 * 5
    assert total(found, "sluice_request_prompt_tokens_sum", model_name="smollm2") == sums["fresh"] + sums["cached"]
    assert total(found, "sluice_prefix_cache_hits_total", model_name="smollm2") == sums["cached"]
    assert total(found, "sluice_kv_cache_usage_perc", model_name="smollm2") == 0
    assert total(found, "sluice_num_requests_waiting", model_name="minilm") == 0
    assert 0 < total(found, "process_resident_memory_bytes") < 16e9
    assert abs(total(found, "process_start_time_seconds") - time.time()) < 600


def test_promtool_finds_nothing(make):
    server = make()
    use(server)
    check = promtool("check", "metrics", stdin=scrape(server).text)
    assert (check.returncode, check.stdout, check.stderr) == (0, "", "")


def test_openmetrics(make):
    server = make("vllm, tgi, llamacpp")
    use(server)
    plain = scrape(server)
    open_ = scrape(server, Accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert open_.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert open_.text.endswith("\n# EOF\n") and "# EOF" not in plain.text
    moving = ("process_", "sluice_http", "http_", "sluice_log")
    # The same series in both, so that boards do not depend on what the scraper asked for.
    assert ({k for k in samples(open_.text) if not k[0].startswith(moving)}
            == {k for k in samples(plain.text) if not k[0].startswith(moving)})
    for name, kind in families(open_.text).items():
        assert kind != "counter" or not name.endswith("_total")
        assert kind in ("counter", "gauge", "histogram", "unknown")
        assert kind != "unknown" or name.startswith("tgi_")


def test_other_servers_names_say_the_same(make):
    server = make("vllm, tgi, llamacpp")
    sums = use(server)
    text = scrape(server).text
    found = samples(text)
    check = promtool("check", "metrics", stdin=text)
    assert check.returncode in (0, 3), check.stderr  # 1: it cannot be parsed
    assert all(line.startswith(("vllm:", "tgi_", "llamacpp:")) for line in check.stderr.splitlines())
    prompt = sums["fresh"] + sums["cached"]
    v = dict(model_name="smollm2", engine="0")
    assert total(found, "vllm:prompt_tokens_total", **v) == prompt
    assert total(found, "vllm:generation_tokens_total", **v) == sums["output"]
    assert total(found, "vllm:prompt_tokens_cached_total", **v) == sums["cached"]
    assert total(found, "vllm:prompt_tokens_by_source_total", source="local_cache_hit", **v) == sums["cached"]
    assert total(found, "vllm:prompt_tokens_by_source_total", source="local_compute", **v) == sums["fresh"]
    assert total(found, "vllm:request_success_total", finished_reason="length", **v) == 4
    assert total(found, "vllm:num_requests_waiting", **v) == 0
    assert total(found, "vllm:prefix_cache_hits_total", **v) == sums["cached"]
    assert total(found, "vllm:time_to_first_token_seconds_count", **v) == 3
    assert total(found, "vllm:e2e_request_latency_seconds_sum", **v) == pytest.approx(
        total(found, "sluice_e2e_request_latency_seconds_sum", model_name="smollm2"))
    bounds = {dict(k)["le"] for n, k in found if n == "vllm:time_to_first_token_seconds_bucket"}
    assert bounds == {"0.001", "0.005", "0.01", "0.02", "0.04", "0.06", "0.08", "0.1", "0.25", "0.5", "0.75", "1.0",
                      "2.5", "5.0", "7.5", "10.0", "20.0", "40.0", "80.0", "160.0", "640.0", "2560.0", "+Inf"}
    own = {dict(k)["le"] for n, k in found if n == "sluice_time_to_first_token_seconds_bucket"}
    assert "0.0025" in own and "2560.0" not in own
    assert total(found, "http_requests_total", handler="/v1/completions", method="POST", status="4xx") == 2
    assert total(found, "tgi_request_count") == 6
    assert total(found, "tgi_request_success") == 4
    assert total(found, "tgi_request_failure", err="overloaded") == 1
    assert total(found, "tgi_request_failure", err="validation") == 1
    assert total(found, "tgi_request_generated_tokens_sum") == sums["output"]
    tgi = sorted(float(dict(k)["le"]) for n, k in found if n == "tgi_request_duration_bucket")
    assert len(tgi) == 36 and tgi[0] == pytest.approx(1.5e-4) and tgi[34] == pytest.approx(1e-4 * 1.5 ** 35)
    assert total(found, "llamacpp:tokens_predicted_total") == sums["output"]
    seconds = total(found, "llamacpp:tokens_predicted_seconds_total")
    assert seconds == pytest.approx(total(found, "sluice_request_decode_time_seconds_sum"))
    assert total(found, "llamacpp:predicted_tokens_seconds") == pytest.approx(sums["output"] / seconds)
    assert total(found, "llamacpp:requests_processing") == 0


def test_without_compat_only_our_own(make):
    server = make()
    use(server)
    assert all(name.startswith(("sluice_", "process_")) for name in families(scrape(server).text))


def documented():
    with open(os.path.join(ROOT, "docs", "metrics.md")) as f:
        text = f.read()
    table = {m[0]: (m[1], {x for x in m[2].replace(" ", "").split(",") if x})
             for m in re.findall(r"^\| `(\w+)` \| (\w+) \| ([\w, ]*)\| ", text, re.M)}
    others = {n for n in re.findall(r"`((?:vllm:|llamacpp:|tgi_|http_)\w+)`", text.split("## Names of other")[1])}
    return table, others, text


def test_the_page_lists_what_there_is(make):
    server = make("vllm, tgi, llamacpp")
    use(server)
    text = scrape(server).text
    kinds, found = families(text), samples(text)
    table, others, page = documented()
    own = {n: k for n, k in kinds.items() if n.startswith(("sluice_", "process_"))}
    assert {n: k for n, (k, _) in table.items()} == own
    for name, (kind, labels) in table.items():
        suffix = "_count" if kind == "histogram" else ""
        for n, have in found:
            if n == name + suffix:
                assert {k for k, _ in have} == labels, name
    foreign = set(kinds) - set(own)
    assert foreign <= others
    missing = set(re.findall(r"`((?:vllm:|llamacpp:|tgi_)\w+)`", " ".join(re.findall(r"Missing:[^*]*", page))))
    assert others - foreign == missing
