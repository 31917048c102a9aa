"""Decoders that embed by their last token, and decoders that judge, against NumPy."""
import math

import numpy as np
import pytest

from decoders import WORDS, Decoder

TEXTS = ["w5 ", "w5 w6 w7 ", "w200 w3 w17 w9 w11 w250 ", "".join(f"w{i * 7 % 280} " for i in range(120))]
ASK = ("Judge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the "
       "answer can only be \"yes\" or \"no\".")
INSTRUCT = "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n<Query>: "


@pytest.mark.parametrize("arch", ["llama", "qwen3"])
def test_vectors_of_the_last_token(tmp_path, real_factory, arch):
    d = Decoder(arch, tmp_path)
    server = real_factory("--model", d.rewrite(str(tmp_path / "embedder.gguf"), pooling=3))
    with server.client(timeout=60) as http:
        answer = http.post("/v1/embeddings", json={"input": TEXTS})
        assert answer.status_code == 200, answer.text
        again = http.post("/v1/embeddings", json={"input": TEXTS[2]}).json()["data"][0]["embedding"]
        for item, text in zip(answer.json()["data"], TEXTS, strict=True):
            ours = np.array(item["embedding"])
            ids = [1, *(4 + WORDS.index(w + " ") for w in text.split())]
            want = d.states(ids)[-1]
            assert ours @ want / np.linalg.norm(want) >= 0.9999
            assert abs(np.linalg.norm(ours) - 1) < 1e-5
        assert again == answer.json()["data"][2]["embedding"]
        assert answer.json()["usage"]["prompt_tokens"] == sum(1 + len(t.split()) for t in TEXTS)
        model = http.get("/v1/models").json()["data"][0]
        assert model["capabilities"] == ["embedding"]
        refused = http.post("/v1/completions", json={"model": model["id"], "prompt": "w5"})
        assert refused.status_code == 400 and "cannot generate text" in refused.json()["error"]["message"]


def ask(query, document):
    return [{"role": "system", "content": ASK},
            {"role": "user", "content": f"{INSTRUCT}{query}\n<Document>: {document}"}]


def test_a_chat_model_judges_where_it_is_named(tmp_path, real_factory):
    d = Decoder("llama", tmp_path)
    server = real_factory("--model", d.rewrite(str(tmp_path / "judge.gguf")))
    with server.client(timeout=60) as http:
        body = {"model": "judge", "query": "w5 w6", "documents": TEXTS, "raw_scores": True}
        answer = http.post("/v1/rerank", json=body)
        assert answer.status_code == 200, answer.text
        got, want, tokens = {r["index"]: r["relevance_score"] for r in answer.json()["results"]}, [], 0
        for text in TEXTS:
            ids = http.post("/tokenize", json={"model": "judge", "messages": ask("w5 w6", text)}).json()["tokens"]
            tokens += len(ids)
            logits = d.logits(ids)
            yes, no, big = (4 + WORDS.index(w) for w in ("yes", "no", "Yes"))
            want.append(float(np.logaddexp(logits[yes], logits[big]) - logits[no]))
        assert np.allclose([got[i] for i in range(len(TEXTS))], want, atol=5e-3), (got, want)
        assert answer.json()["usage"]["prompt_tokens"] == tokens
        score = http.post("/score", json={"model": "judge", "text_1": "w5 w6", "text_2": TEXTS[1]}).json()
        assert abs(score["data"][0]["score"] - 1 / (1 + math.exp(-got[1]))) < 1e-5
        # Nobody asked for it by name: it is no reranker.
        refused = http.post("/v1/rerank", json={"query": "w5 w6", "documents": TEXTS})
        assert refused.status_code == 404 and "cross-encoder" in refused.json()["error"]["message"]
        long = "w5 " * 1100
        refused = http.post("/v1/rerank", json={**body, "documents": [long]})
        assert refused.status_code == 400 and refused.json()["error"]["code"] == "context_length_exceeded"
        cut = http.post("/v1/rerank", json={**body, "documents": [long], "truncate": True})
        assert cut.status_code == 200 and 900 < cut.json()["usage"]["prompt_tokens"] <= 1024


def test_a_model_without_yes_and_no(tmp_path, real_factory):
    d = Decoder("llama", tmp_path)
    with real_factory("--model", d.path).client() as http:
        refused = http.post("/v1/rerank", json={"model": "llama", "query": "w5", "documents": ["w6"]})
        assert refused.status_code == 501 or refused.status_code == 400
        assert "no tokens for yes and no" in refused.json()["error"]["message"]
