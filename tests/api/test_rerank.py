"""Shapes and refusals of the routes that score documents, against the scripted model: its logit is the
number of the query's words that a document has, less 1."""
import math

import pytest


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


DOCUMENTS = ["nothing of it", "a red fox", "the red fox runs", "red"]
QUERY = "red fox runs"


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_list(fake, path):
    with fake.client() as c:
        r = c.post(path, json={"query": QUERY, "documents": DOCUMENTS})
        body = r.json()
        assert r.status_code == 200
        assert body["id"].startswith("rerank-") and body["object"] == "list" and body["model"] == "fake-rerank"
        assert body["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
        assert [x["index"] for x in body["results"]] == [2, 1, 3, 0]
        assert [x["document"]["text"] for x in body["results"]] == [DOCUMENTS[i] for i in (2, 1, 3, 0)]
        for x, logit in zip(body["results"], [2, 1, 0, -1]):
            assert abs(x["relevance_score"] - sigmoid(logit)) < 1e-6


def test_list_options(fake):
    with fake.client() as c:
        def results(**more):
            r = c.post("/v1/rerank", json={"model": "fake-rerank", "query": QUERY, "documents": DOCUMENTS, **more})
            assert r.status_code == 200, r.text
            return r.json()["results"]

        assert [x["index"] for x in results(top_n=2)] == [2, 1]
        assert len(results(top_n=100)) == 4
        assert all("document" not in x for x in results(return_documents=False))
        assert [x["relevance_score"] for x in results(raw_scores=True)] == [2, 1, 0, -1]
        assert [x["relevance_score"] for x in results(use_activation=False)] == [2, 1, 0, -1]
        assert [x["index"] for x in results(documents=[{"text": "x"}, {"text": "red"}])] == [1, 0]
        # Equal scores keep the caller's order.
        assert [x["index"] for x in results(documents=["red", "fox", "red"])] == [0, 1, 2]


def test_texts(fake):
    with fake.client() as c:
        r = c.post("/rerank", json={"query": QUERY, "texts": DOCUMENTS})
        assert [sorted(x) for x in r.json()] == [["index", "score"]] * 4
        assert [x["index"] for x in r.json()] == [2, 1, 3, 0]
        r = c.post("/rerank", json={"query": QUERY, "texts": DOCUMENTS, "raw_scores": True, "return_text": True,
                                    "truncate": True, "truncation_direction": "Right"})
        assert r.json()[0] == {"index": 2, "score": 2, "text": DOCUMENTS[2]}


@pytest.mark.parametrize("path", ["/v1/score", "/score"])
def test_score(fake, path):
    with fake.client() as c:
        def scores(one, two):
            r = c.post(path, json={"model": "fake-rerank", "text_1": one, "text_2": two, "raw_scores": True})
            assert r.status_code == 200, r.text
            body = r.json()
            assert body["object"] == "list" and body["usage"]["total_tokens"] == 7
            assert all(d["object"] == "score" for d in body["data"])
            assert [d["index"] for d in body["data"]] == list(range(len(body["data"])))
            return [d["score"] for d in body["data"]]

        assert scores("red", "red") == [0]
        assert scores(QUERY, DOCUMENTS) == [-1, 1, 2, 0]
        assert scores(["red", "fox runs"], ["blue", "fox runs"]) == [-1, 1]
        refused = c.post(path, json={"text_1": ["a", "b"], "text_2": ["a", "b", "c"]})
        assert refused.status_code == 400 and refused.json()["error"]["param"] == "text_2"


@pytest.mark.parametrize("body,param", [
    ({"documents": ["a"]}, "query"),
    ({"query": "a"}, "documents"),
    ({"query": 7, "documents": ["a"]}, "query"),
    ({"query": ["a"], "documents": ["a"]}, "query"),
    ({"query": "a", "documents": "a"}, "documents"),
    ({"query": "a", "documents": []}, "documents"),
    ({"query": "a", "documents": ["a", 7]}, "documents[1]"),
    ({"query": "a", "documents": [{"title": "a"}]}, "documents[0]"),
    ({"query": "a", "documents": ["a"] * 2049}, "documents"),
    ({"query": "a", "documents": ["a"], "top_n": 0}, "top_n"),
    ({"query": "a", "documents": ["a"], "truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
    ({"query": "a", "documents": ["a"], "model": "gpt-5"}, "model"),
])
def test_refusals(fake, body, param):
    with fake.client() as c:
        for path in ("/v1/rerank", "/rerank"):
            r = c.post(path, json=body)
            error = r.json()["error"]
            assert r.status_code == (404 if param == "model" else 400)
            assert error["param"] == param and error["type"] == "invalid_request_error", error


def test_refusals_of_texts(fake):
    with fake.client() as c:
        for body in ({"texts": ["a"]}, {"query": "a", "texts": []}, {"query": "a", "texts": [7]},
                     {"query": "a", "texts": ["a"], "truncation_direction": "left"}):
            r = c.post("/rerank", json=body)
            assert r.status_code == 422 and r.json()["error_type"] == "Validation", r.text
        r = c.post("/rerank", json={"query": "busy", "texts": ["a"]})
        assert r.status_code == 429 and r.json()["error_type"] == "Overloaded"
        assert c.post("/rerank", content=b"{").status_code == 400


def test_failures_and_models(fake):
    with fake.client() as c:
        body = {"query": "busy", "documents": ["a"]}
        r = c.post("/v1/rerank", json=body)
        assert r.status_code == 503 and r.json()["error"]["code"] == "engine_overloaded"
        r = c.post("/v1/rerank", json={**body, "query": "early"})
        assert r.status_code == 400 and r.json()["error"]["param"] == "documents"
        # A model that generates judges where it says so, and only where it is named.
        r = c.post("/v1/rerank", json={"model": "fake", "query": QUERY, "documents": DOCUMENTS})
        assert r.status_code == 200 and r.json()["model"] == "fake"
        r = c.post("/v1/rerank", json={"model": "fake-embed", "query": QUERY, "documents": DOCUMENTS})
        assert r.status_code == 400 and "cannot score documents" in r.json()["error"]["message"]
        r = c.post("/v1/embeddings", json={"model": "fake-rerank", "input": "a"})
        assert r.status_code == 400 and "cannot make embeddings" in r.json()["error"]["message"]


def test_key_without_permission(fake_factory):
    server = fake_factory("secret")
    with server.client() as c:
        assert c.post("/v1/rerank", json={"query": "a", "documents": ["a"]}).status_code == 401
        r = c.post("/v1/rerank", json={"query": "a", "documents": ["a"]}, headers={"Authorization": "Bearer secret"})
        assert r.status_code == 200
