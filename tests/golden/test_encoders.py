"""Encoders of several families, tiny and seeded, in both layouts, against NumPy: vectors and scores."""
import math

import numpy as np
import pytest

import encoders
from encoders import Spec, ids_of

QUERY = "w1 w2 w3 w4"


def embed(server, texts, **more):
    with server.client(timeout=60) as http:
        answer = http.post("/v1/embeddings", json={"input": texts, **more})
        assert answer.status_code == 200, answer.text
        return np.array([d["embedding"] for d in answer.json()["data"]])


def compare(server, spec, pool, normalize=True):
    texts = encoders.texts(30)
    for ours, text in zip(embed(server, texts), texts, strict=True):
        want = spec.vector(encoders.single(text), pool, normalize)
        assert ours @ want / np.linalg.norm(ours) / np.linalg.norm(want) >= 0.99999
        assert abs(np.linalg.norm(ours) - np.linalg.norm(want)) < 1e-4 * np.linalg.norm(want)


@pytest.mark.parametrize("kind", ["bert", "roberta", "nomic"])
@pytest.mark.parametrize("pool", ["mean", "cls", "last"])
def test_vectors_of_hugging_face_models(tmp_path, real_factory, kind, pool):
    spec = Spec(kind, seed=11)
    names = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"}
    path = spec.write_hf(str(tmp_path / "m"), names[pool])
    compare(real_factory("--model", path), spec, pool)


@pytest.mark.parametrize("kind", ["bert", "nomic"])
@pytest.mark.parametrize("pooling,pool", [(None, "mean"), (1, "mean"), (2, "cls"), (3, "last")])
def test_vectors_of_gguf_models(tmp_path, real_factory, kind, pooling, pool):
    spec = Spec(kind, seed=12)
    compare(real_factory("--model", spec.write_gguf(str(tmp_path / "m.gguf"), pooling)), spec, pool)


def test_modules_say_whether_vectors_are_normalized(tmp_path, real_factory):
    base, spec = "sentence_transformers.models.", Spec(seed=13)
    plain = spec.write_hf(str(tmp_path / "a"), "pooling_mode_mean_tokens", [base + "Transformer", base + "Pooling"])
    unit = spec.write_hf(str(tmp_path / "b"), "pooling_mode_mean_tokens",
                         [base + "Transformer", base + "Pooling", base + "Normalize"])
    compare(real_factory("--model", plain), spec, "mean", normalize=False)
    compare(real_factory("--model", unit), spec, "mean")


def test_activation_of_the_config_is_used(tmp_path, real_factory):
    spec = Spec(act="gelu_new", seed=14)
    compare(real_factory("--model", spec.write_hf(str(tmp_path / "m"))), spec, "mean")


def test_heads_of_other_widths(tmp_path, real_factory):
    """A width that is no multiple of a panel or of a vector register."""
    spec = Spec(dim=72, heads=3, ff=100, seed=15)
    compare(real_factory("--model", spec.write_hf(str(tmp_path / "m"))), spec, "mean")


# ---- scores -----------------------------------------------------------------------------------


def rerank(server, query, documents, **more):
    with server.client(timeout=60) as http:
        answer = http.post("/v1/rerank", json={"query": query, "documents": documents, **more})
        assert answer.status_code == 200, answer.text
        return answer.json()


def logits(server, query, documents, **more):
    results = rerank(server, query, documents, raw_scores=True, **more)["results"]
    return [r["relevance_score"] for r in sorted(results, key=lambda r: r["index"])]


@pytest.mark.parametrize("kind,head,layout", [("bert", "full", "hf"), ("roberta", "full", "hf"), ("bert", "full", "gguf"),
                                              ("bert", "bare", "gguf")])
def test_scores_agree_with_numpy(tmp_path, real_factory, kind, head, layout):
    spec = Spec(kind, head=head, seed=21)
    path = str(tmp_path / "m.gguf")
    path = spec.write_hf(str(tmp_path / "m")) if layout == "hf" else spec.write_gguf(path, 4)
    server, documents = real_factory("--model", path), encoders.texts(40, seed=5)
    want = [spec.logit(QUERY, d) for d in documents]
    got = logits(server, QUERY, documents)
    assert max(want) - min(want) > 0.05  # they do differ
    assert np.allclose(got, want, atol=2e-3), np.abs(np.array(got) - want).max()
    results = rerank(server, QUERY, documents)["results"]
    assert [r["index"] for r in results] == sorted(range(len(want)), key=lambda i: -got[i])
    for r in results:
        assert abs(r["relevance_score"] - 1 / (1 + math.exp(-want[r["index"]]))) < 1e-3
        assert r["document"]["text"] == documents[r["index"]]


def test_a_score_does_not_depend_on_its_batch(tmp_path, real_factory):
    server = real_factory("--model", Spec(head="full", seed=22).write_hf(str(tmp_path / "m")))
    documents = encoders.texts(60, seed=6, longest=36)
    together = logits(server, QUERY, documents)
    assert together[::-1] == logits(server, QUERY, documents[::-1])
    assert together == [logits(server, QUERY, [d])[0] for d in documents]


def test_long_documents(tmp_path, real_factory):
    spec = Spec(head="full", context=24, seed=23)
    server, long = real_factory("--model", spec.write_hf(str(tmp_path / "m"))), " ".join(["w7", "w8"] * 20)
    with server.client() as http:
        refused = http.post("/v1/rerank", json={"query": QUERY, "documents": [long]})
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "context_length_exceeded"
        assert refused.json()["error"]["param"] == "documents"
        tei = http.post("/rerank", json={"query": QUERY, "texts": [long]})
        assert tei.status_code == 413 and tei.json()["error_type"] == "Validation"
        hopeless = http.post("/v1/rerank", json={"query": long, "documents": ["w1"], "truncate": True})
        assert hopeless.status_code == 400 and "query alone" in hopeless.json()["error"]["message"]
    room = 24 - 3 - len(ids_of(QUERY))
    want = spec.logit(QUERY, " ".join(long.split()[:room]))
    assert abs(logits(server, QUERY, [long], truncate=True)[0] - want) < 2e-3
    assert abs(logits(server, QUERY, [long], truncate_prompt_tokens=-1)[0] - want) < 2e-3
    short = spec.logit(QUERY, " ".join(long.split()[: 12 - 3 - len(ids_of(QUERY))]))
    assert abs(logits(server, QUERY, [long], truncate_prompt_tokens=12)[0] - short) < 2e-3


def test_pairs_and_usage(tmp_path, real_factory):
    spec = Spec(head="full", seed=24)
    server = real_factory("--model", spec.write_hf(str(tmp_path / "ranker")))
    with server.client() as http:
        body = {"text_1": ["w1 w2", "w3"], "text_2": ["w4", "w5 w6"], "raw_scores": True}
        answer = http.post("/score", json=body).json()
        assert [d["index"] for d in answer["data"]] == [0, 1]
        want = [spec.logit("w1 w2", "w4"), spec.logit("w3", "w5 w6")]
        assert np.allclose([d["score"] for d in answer["data"]], want, atol=2e-3)
        assert answer["usage"]["prompt_tokens"] == (2 + 1 + 3) + (1 + 2 + 3)
        models = http.get("/v1/models").json()["data"]
        assert models[0]["capabilities"] == ["rerank"]
        for path, more in (("/v1/embeddings", {"input": "w1"}), ("/v1/completions", {"prompt": "w1"})):
            refused = http.post(path, json={"model": models[0]["id"], **more})
            assert refused.status_code == 400, refused.text
            assert "cannot" in refused.json()["error"]["message"]
        # Control tokens that a text spells do not enclose texts.
        spelled = http.post("/score", json={"text_1": "w1 [SEP] w2", "text_2": "w4"}).json()
        assert spelled["usage"]["prompt_tokens"] > 1 + 1 + 1 + 3 + 1


# ---- prefixes -----------------------------------------------------------------------------------


def test_prefixes_of_the_models_files(tmp_path, real_factory):
    spec = Spec(seed=31)
    path = spec.write_hf(str(tmp_path / "m"), prompts={"query": "w9 w10 ", "document": "w11 "})
    server = real_factory("--model", path)
    plain = embed(server, ["w1", "w9 w10 w1", "w11 w1"])
    assert (embed(server, ["w1"], input_type="query")[0] == plain[1]).all()
    assert (embed(server, ["w1"], input_type="search_query")[0] == plain[1]).all()
    for name in ("passage", "document", "search_document"):
        assert (embed(server, ["w1"], input_type=name)[0] == plain[2]).all()
    with server.client() as http:
        refused = http.post("/v1/embeddings", json={"input": "w1", "input_type": "poem"})
        assert refused.status_code == 400 and refused.json()["error"]["param"] == "input_type"


@pytest.mark.parametrize("name,query,passage", [("e5-tiny-v2", "query: ", "passage: "),
                                                ("nomic-embed-text-v9", "search_query: ", "search_document: "),
                                                ("tiny", "", "")])
def test_prefixes_of_a_family(tmp_path, real_factory, name, query, passage):
    spec = Spec(seed=32)
    server = real_factory("--model", spec.write_gguf(str(tmp_path / "m.gguf"), 1, name=name))
    plain = embed(server, ["w1 w2", query + "w1 w2", passage + "w1 w2"])
    assert (embed(server, ["w1 w2"], input_type="query")[0] == plain[1]).all()
    assert (embed(server, ["w1 w2"], input_type="passage")[0] == plain[2]).all()
    assert (plain[0] == plain[1]).all() == (query == "")


def test_prefixes_of_the_configuration(tmp_path, real_factory):
    spec = Spec(seed=33)
    path = spec.write_hf(str(tmp_path / "m"), prompts={"query": "w9 w10 ", "passage": "w11 "})
    (tmp_path / "c.yaml").write_text(f'models:\n  - name: mine\n    path: {path}\n    query_prefix: "w20 "\n'
                                     '    passage_prefix: ""\n')
    server = real_factory("--config", str(tmp_path / "c.yaml"))
    plain = embed(server, ["w1", "w20 w1"], model="mine")
    assert (embed(server, ["w1"], input_type="query", model="mine")[0] == plain[1]).all()
    assert (embed(server, ["w1"], input_type="passage", model="mine")[0] == plain[0]).all()
