"""Scores through the real binary: limits, ledger and metrics see their tokens, keys bound their models."""
import json
import os
import sys
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))

from conftest import sluice  # noqa: E402
from encoders import Spec  # noqa: E402

QUERY, DOCUMENTS = "w1 w2", ["w3 w4 w5", "w6", "w7 w8"]
TOKENS = 3 * (3 + 2) + 3 + 1 + 2


@pytest.fixture
def ranker(real_factory, tmp_path):
    (tmp_path / "data").mkdir()
    path = Spec(head="full", seed=51).write_hf(str(tmp_path / "m"))
    text = (f"models:\n  - name: ranker\n    path: {path}\nloading: {{only_configured: true}}\n"
            f"limits:\n  models:\n    - {{model: ranker, tpm: {TOKENS * 2 + 10}}}\n")
    (tmp_path / "c.yaml").write_text(text)
    return real_factory("--config", str(tmp_path / "c.yaml"), "--data", str(tmp_path / "data"))


def test_tokens_are_counted(ranker, tmp_path):
    body = {"query": QUERY, "documents": DOCUMENTS}
    start = int(time.time()) - 100
    with ranker.client() as http:
        for _ in range(2):
            answer = http.post("/v1/rerank", json=body)
            assert answer.status_code == 200 and answer.json()["usage"]["total_tokens"] == TOKENS, answer.text
        assert answer.headers["x-ratelimit-remaining-tokens"] == "10"
        refused = http.post("/v1/rerank", json=body)
        assert refused.status_code == 429 and refused.json()["error"]["code"] == "rate_limit_exceeded"
        tei = http.post("/rerank", json={"query": QUERY, "texts": DOCUMENTS})
        assert tei.status_code == 429 and tei.json()["error_type"] == "Overloaded"
        small = http.post("/score", json={"text_1": "w1", "text_2": "w2"})
        assert small.status_code == 200
        deadline = time.time() + 10
        while True:
            page = http.get("/v1/organization/usage/embeddings", params={"start_time": start}).json()
            rows = [r for bucket in page["data"] for r in bucket["results"]]
            if sum(r["num_model_requests"] for r in rows) >= 3 or time.time() > deadline:
                break
            time.sleep(0.05)
        assert sum(r["input_tokens"] for r in rows) == 2 * TOKENS + 5
        text = http.get("/metrics").text
    for route, tokens in (("/v1/rerank", 2 * TOKENS), ("/score", 5)):
        assert f'sluice_tokens_total{{model_name="ranker",route="{route}",bucket="fresh"}} {tokens}' in text.splitlines()
    rows = json.loads(sluice("usage", "--by", "model", "--json", "--since", "1h", "--data", str(tmp_path / "data")).stdout)
    assert len(rows) == 1 and rows[0]["requests"] >= 3


def test_a_key_without_the_model_is_refused(real_factory, tmp_path):
    (tmp_path / "data").mkdir()
    path = Spec(head="full", seed=52).write_hf(str(tmp_path / "ranker"))
    data = str(tmp_path / "data")
    made = json.loads(sluice("key", "create", "app", "--models", "other", "--json", "--data", data).stdout)
    server = real_factory("--model", path, "--data", data)
    with server.client(headers={"Authorization": f"Bearer {made['key']}"}) as http:
        refused = http.post("/v1/rerank", json={"query": QUERY, "documents": DOCUMENTS})
        assert refused.status_code == 403, refused.text
