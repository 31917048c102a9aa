"""Answers over documents with the real models: a model's name that is bound to a collection, in all dialects."""
import json
import os
import subprocess
import time

import pytest
from conftest import start_real

TEXT = ("# Handbook\n\n## Holidays\n\nEvery employee of Tessellate has thirty days of holidays a year. Holidays are asked "
        "for in the tool Almanac.\n\n## Travel\n\nTrains are booked by the office in Bern.\n")
QUESTION = "How many days of holidays does every employee have?"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    models = os.path.join(os.environ.get("SLUICE_DATA", ""), "models")
    if not os.path.isdir(models):
        pytest.skip("SLUICE_DATA has no models")
    data = tmp_path_factory.mktemp("rag-real")
    os.symlink(models, data / "models")
    (data / "handbook.md").write_text(TEXT)
    config = data / "sluice.yaml"
    config.write_text(json.dumps({"data": str(data), "models": [
        {"path": "smollm2"}, {"path": "minilm"},
        {"name": "handbook", "path": "smollm2", "rag": {"collection": "people"}}]}))
    subprocess.run([os.environ["SLUICE_BIN"], "rag", "add", str(data / "handbook.md"), "--collection", "people",
                    "--data", str(data)], check=True, capture_output=True)
    s = start_real("--config", str(config), "--data", str(data))
    yield s
    s.stop()


def test_bound_model_in_all_dialects(server):
    chat = [{"role": "user", "content": QUESTION}]
    with server.client(timeout=120) as c:
        answers = {
            "openai": c.post("/v1/chat/completions", json={"model": "handbook", "messages": chat, "temperature": 0}),
            "responses": c.post("/v1/responses", json={"model": "handbook", "input": QUESTION, "temperature": 0}),
            "anthropic": c.post("/v1/messages", json={"model": "handbook", "messages": chat, "max_tokens": 100,
                                                      "temperature": 0}),
            "ollama": c.post("/api/chat", json={"model": "handbook", "messages": chat, "stream": False,
                                                "options": {"temperature": 0}}),
        }
        for dialect, r in answers.items():
            assert r.status_code == 200, (dialect, r.text)
            body = r.json()
            rag = body["choices"][0]["message"]["rag"] if dialect == "openai" else body["rag"]
            assert rag["collection"] == "people" and rag["passages"][0]["heading"] == "Handbook > Holidays", dialect
            assert "thirty" in r.text or "30" in r.text
            for citation in rag["citations"]:
                assert citation["quote"] in TEXT
                assert TEXT.encode()[citation["quote_start"]:citation["quote_end"]].decode() == citation["quote"]
        other = c.post("/v1/chat/completions", json={"model": "handbook", "temperature": 0, "messages": [
            {"role": "user", "content": "Quelle est la capitale de la Mongolie ?"}]}).json()["choices"][0]["message"]
        if other["rag"]["trace"]["nothing_found"]:
            assert other["content"] == "Je n'ai rien trouvé à ce sujet dans les documents."
        r = c.post("/v1/completions", json={"model": "handbook", "prompt": "x"})
        assert r.status_code == 400 and "chat" in r.json()["error"]["message"]
        plain = c.post("/v1/chat/completions", json={"model": "smollm2", "messages": chat, "max_tokens": 5}).json()
        assert "rag" not in plain["choices"][0]["message"]


def test_an_end_within_ingestion_fails_no_document(tmp_path):
    models = os.path.join(os.environ.get("SLUICE_DATA", ""), "models")
    if not os.path.isdir(models):
        pytest.skip("SLUICE_DATA has no models")
    os.symlink(models, tmp_path / "models")
    start = ("--model", "minilm", "--data", str(tmp_path))
    count = 400
    server = start_real(*start)
    with server.client(timeout=60) as c:
        for i in range(count):
            r = c.post("/v1/rag/documents?wait=false", json={"name": f"{i}.md", "text": f"# N{i}\n\n" + "Trains to Bern. " * 20})
            assert r.status_code < 300, r.text
    assert server.stop() == 0
    server = start_real(*start)
    with server.client(timeout=60) as c:
        while (counts := c.get("/v1/rag/collections/default").json()["file_counts"])["in_progress"]:
            time.sleep(0.05)
    server.stop()
    assert counts["completed"] == count and counts["failed"] == 0
