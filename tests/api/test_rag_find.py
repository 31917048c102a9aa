"""sluice rag eval and sluice rag search: the measures are trec_eval's, errors name file and line."""
import json
import os
import subprocess

import pytest

BIN = os.environ.get("SLUICE_BIN", "build/sluice")
DATA = os.environ.get("SLUICE_DATA")
needs_models = pytest.mark.skipif(not DATA or not os.path.isdir(os.path.join(DATA, "models")),
                                  reason="SLUICE_DATA has no models")

# Each document is about one animal; words decide, so that the lexical ranking is known.
DOCUMENTS = {
    "zebra": "zebra zebra zebra grass",
    "horse": "horse grass stable and many other words that make this passage long",
    "whale": "whale sea",
    "shark": "shark sea teeth",
    "gull": "gull sea coast",
}
QUERIES = {"q1": "zebra", "q2": "whale grass", "q3": "sea", "q4": "teeth"}
QRELS = [("q1", "zebra", 2), ("q1", "horse", 1), ("q2", "horse", 3), ("q2", "whale", 1), ("q3", "gull", 1),
         ("q3", "zebra", 0), ("q4", "shark", 1), ("q4", "lost", 1)]


@pytest.fixture
def data(tmp_path):
    """A data directory of its own over the models of the tests."""
    (tmp_path / "data").mkdir()
    os.symlink(os.path.join(DATA, "models"), tmp_path / "data" / "models")
    return tmp_path / "data"


def write(folder, documents=None, queries=None, qrels=None):
    (folder / "qrels").mkdir(parents=True)
    lines = documents or [json.dumps({"_id": k, "title": "", "text": v}) for k, v in DOCUMENTS.items()]
    (folder / "corpus.jsonl").write_text("\n".join(lines) + "\n")
    lines = queries or [json.dumps({"_id": k, "text": v}) for k, v in QUERIES.items()]
    (folder / "queries.jsonl").write_text("\n".join(lines) + "\n")
    lines = qrels or ["\t".join(map(str, q)) for q in QRELS]
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(lines) + "\n")
    return folder


def run(*args, data):
    return subprocess.run([BIN, "rag", *args, "--data", str(data)], capture_output=True, text=True, timeout=300)


@needs_models
def test_measures(tmp_path, data):
    """The ranking by words: q1: zebra. q2: whale, zebra, horse (whale is rare and its passage short; grass is in
    zebra and in the longer horse). q3: whale, shark, gull or in another order of equal lengths. q4: shark.
    The numbers are those of pytrec_eval 0.5 (ndcg_cut_10, recall_k, recip_rank) for that run."""
    p = run("eval", "--beir", str(write(tmp_path / "beir")), "--mode", "lexical", "--json", data=data)
    assert p.returncode == 0, p.stderr
    report = json.loads(p.stdout)
    assert report["documents"] == 5 and report["queries"] == 4 and report["judged_but_missing"] == 1
    assert list(report["modes"]) == ["lexical"]
    m = report["modes"]["lexical"]
    # nDCG: q1 2 / (2 + 1 / log2 3), q2 (1 + 3 / 2) / (3 + 1 / log2 3), q3 1 / log2 4, q4 1 / (1 + 1 / log2 3)
    assert m["ndcg@10"] == pytest.approx((0.760188 + 0.688527 + 0.5 + 0.613147) / 4, abs=2e-4)
    assert m["recall@1"] == pytest.approx((0.5 + 0.5 + 0 + 0.5) / 4, abs=1e-5)
    assert m["recall@5"] == pytest.approx((0.5 + 1 + 1 + 0.5) / 4, abs=1e-5)
    assert m["recall@100"] == m["recall@10"] == m["recall@5"]
    assert m["mrr@10"] == pytest.approx((1 + 1 + 1 / 3 + 1) / 4, abs=1e-4)
    assert 0 < m["latency_ms"]["p50"] <= m["latency_ms"]["p99"]
    assert report["ingest"]["documents_per_second"] > 0 and report["ingest"]["tokens_per_second"] > 0
    assert not os.path.exists(data / "sluice.db")  # the collection was a throw-away one


@needs_models
def test_all_modes(tmp_path, data):
    p = run("eval", "--beir", str(write(tmp_path / "beir")), data=data)
    assert p.returncode == 0, p.stderr
    rows = [line.split()[0] for line in p.stdout.splitlines() if line and line.split()[0] in
            ("lexical", "dense", "fused", "reranked")]
    assert rows == ["lexical", "dense", "fused"]
    p = run("eval", "--beir", str(tmp_path / "beir"), "--mode", "reranked", data=data)
    assert p.returncode == 1 and "rerank" in p.stderr


@needs_models
@pytest.mark.parametrize("part, lines, what", [
    ("documents", ['{"_id":"a","text":"x"}', "{"], "corpus.jsonl, line 2"),
    ("documents", ['{"_id":"a"}'], "corpus.jsonl, line 1"),
    ("documents", ['{"_id":"a","text":"x"}', "", '{"_id":"a","text":"y"}'], "corpus.jsonl, line 3"),
    ("queries", ["[]"], "queries.jsonl, line 1"),
    ("qrels", ["q1 zebra 1"], "test.tsv, line 2"),
    ("qrels", ["q1\tzebra\thigh"], "test.tsv, line 2"),
    ("qrels", ["nobody\tzebra\t1"], "test.tsv, line 2"),
])
def test_bad_lines(tmp_path, data, part, lines, what):
    p = run("eval", "--beir", str(write(tmp_path / "beir", **{part: lines})), data=data)
    assert p.returncode == 1 and what in p.stderr, p.stderr


@needs_models
def test_bad_use(tmp_path, data):
    p = run("eval", "--beir", str(tmp_path / "nowhere"), data=data)
    assert p.returncode == 1 and "nowhere/corpus.jsonl" in p.stderr
    assert run("eval", data=data).returncode == 2
    assert run("eval", "--beir", ".", "--mode", "best", data=data).returncode == 2


@needs_models
def test_search(tmp_path, data):
    for name, text in DOCUMENTS.items():
        (tmp_path / f"{name}.txt").write_text(text)
    p = run("add", *[str(tmp_path / f"{n}.txt") for n in DOCUMENTS], "--collection", "zoo", data=data)
    assert p.returncode == 0, p.stderr
    p = run("search", "--collection", "zoo", "-k", "2", "--json", "zebra", "grass", data=data)
    assert p.returncode == 0, p.stderr
    report = json.loads(p.stdout)
    assert report["query"] == "zebra grass" and len(report["hits"]) == 2
    hit = report["hits"][0]
    assert hit["document"].endswith("zebra.txt") and hit["text"] == DOCUMENTS["zebra"]
    assert hit["scores"]["lexical"] > 0 and 0 < hit["scores"]["dense"] <= 1 and hit["scores"]["rerank"] is None
    assert 0 < hit["score"] <= 1 and hit["score"] >= report["hits"][1]["score"]
    p = run("search", "--collection", "zoo", "zebra", data=data)
    assert p.returncode == 0 and "lexical" in p.stdout and "zebra.txt" in p.stdout
    p = run("search", "--collection", "nowhere", "zebra", data=data)
    assert p.returncode == 0 and "nothing found" in p.stdout
