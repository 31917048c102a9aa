"""deploy/: a real Prometheus with our configuration scrapes the server, the alert rules have their tests, and
rules and board name only metrics that there are."""
import contextlib
import json
import os
import re
import socket
import subprocess
import time

import httpx

from test_metrics import ROOT, documented, make, promtool, use  # noqa: F401 (make is a fixture)


# ---- a real Prometheus ------------------------------------------------------------------------------


def free_port():
    with contextlib.closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def eventually(ask, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if value := ask():
                return value
        except (httpx.HTTPError, ValueError):  # it says in words that it is not ready
            pass
        time.sleep(0.1)
    raise AssertionError("it did not happen")


def test_a_real_prometheus_scrapes(make, tmp_path):
    server = make("vllm")
    sums = use(server)
    port = free_port()
    with open(os.path.join(ROOT, "deploy", "prometheus", "prometheus.yml")) as f:
        config = f.read()
    assert "127.0.0.1:8080" in config
    config = config.replace("127.0.0.1:8080", server.base.removeprefix("http://"))
    config = re.sub(r"scrape_interval: \w+", "scrape_interval: 1s", config)
    (tmp_path / "prometheus.yml").write_text(config)
    (tmp_path / "alerts.yml").write_bytes(open(os.path.join(ROOT, "deploy", "prometheus", "alerts.yml"), "rb").read())
    process = subprocess.Popen(
        ["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/tsdb",
         f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", trust_env=False, timeout=10) as http:
            def target():
                targets = http.get("/targets").json()["data"]["activeTargets"]
                return next((t for t in targets if t["health"] == "up"), None)

            def query(expr):
                result = http.get("/query", params={"query": expr}).json()["data"]["result"]
                return float(result[0]["value"][1]) if result else None

            up = eventually(target)
            assert up["lastError"] == "" and up["labels"]["job"] == "sluice"
            output = 'sluice_tokens_total{bucket="output",model_name="smollm2"}'
            assert eventually(lambda: query(f"sum({output})")) == sums["output"]
            assert query('vllm:generation_tokens_total{model_name="smollm2"}') == sums["output"]
            p99 = query("histogram_quantile(0.99, sum by (le) (sluice_e2e_request_latency_seconds_bucket))")
            assert 0 < p99 < 600
            kinds = http.get("/metadata").json()["data"]
            assert kinds["sluice_request_queue_time_seconds"][0]["type"] == "histogram"
            rules = http.get("/rules").json()["data"]["groups"]
            assert rules and all(r["health"] in ("ok", "unknown") for g in rules for r in g["rules"])
    finally:
        process.terminate()
        process.wait(20)


# ---- deploy/ ----------------------------------------------------------------------------------------


def deploy(*path):
    return os.path.join(ROOT, "deploy", *path)


def names_of(expr):
    """Names of metrics in an expression, without the suffixes of histograms."""
    expr = re.sub(r'"(?:[^"\\]|\\.)*"', "", expr)
    names = set(re.findall(r"\b(?:sluice|process)_\w+", expr))
    table = documented()[0]
    return {n if n in table else re.sub(r"_(bucket|sum|count)$", "", n) for n in names}


def test_alert_rules():
    check = promtool("check", "rules", deploy("prometheus", "alerts.yml"))
    assert check.returncode == 0, check.stdout + check.stderr
    test = promtool("test", "rules", deploy("prometheus", "alerts_test.yml"))
    assert test.returncode == 0, test.stdout + test.stderr
    config = promtool("check", "config", deploy("prometheus", "prometheus.yml"))
    assert config.returncode == 0, config.stdout + config.stderr
    with open(deploy("prometheus", "alerts.yml")) as f:
        text = f.read()
    table = documented()[0]
    unknown = names_of(re.sub(r"#.*", "", text)) - set(table)
    assert not unknown
    alerts = set(re.findall(r"- alert: (\w+)", text))
    with open(deploy("prometheus", "alerts_test.yml")) as f:
        tested = set(re.findall(r"alertname: (\w+)", f.read()))
    assert alerts and tested == alerts, "every alert has its test"


def test_board(tmp_path):
    """Every expression parses, and names only metrics that there are."""
    with open(deploy("grafana", "sluice.json")) as f:
        board = json.load(f)
    exprs = [t["expr"] for p in board["panels"] for t in p.get("targets", [])]
    variables = [v for v in board["templating"]["list"] if v["type"] == "query"]
    assert len(exprs) > 15
    queries = [v["query"]["query"] for v in variables]
    for text in queries:
        exprs.append(re.fullmatch(r"label_values\((.*), \w+\)", text).group(1))
    table = documented()[0]
    rules = []
    for i, expr in enumerate(exprs):
        assert not names_of(expr) - set(table), expr
        assert names_of(expr) or expr.startswith("up"), expr
        expr = expr.replace("$__rate_interval", "5m").replace("$__range", "1h")
        assert "$" not in re.sub(r'"[^"]*"', "", expr), expr
        rules.append({"record": f"board:e{i}", "expr": expr})
    path = tmp_path / "board.yml"
    path.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))  # JSON is YAML
    check = promtool("check", "rules", "--lint=none", str(path))
    assert check.returncode == 0, check.stdout + check.stderr
    ids = [p["id"] for p in board["panels"]]
    assert len(ids) == len(set(ids))
    assert all(p.get("datasource", {}).get("uid") == "${datasource}" for p in board["panels"] if p["type"] != "row")
