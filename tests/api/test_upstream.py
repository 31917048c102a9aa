"""A server with OpenAI's /v1/embeddings as an embedding model: what it is asked, and what its failures become."""
import http.server
import json
import threading

import pytest

DIM = 4


class Upstream:
    """Answers as it is told: a list of (status, body) to give first, then vectors."""

    def __init__(self):
        self.asked, self.keys, self.first, upstream = [], [], [], self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                upstream.asked.append((self.path, body))
                upstream.keys.append(self.headers.get("authorization"))
                if upstream.first:
                    status, answer = upstream.first.pop(0)
                else:
                    status, answer = 200, upstream.vectors(body["input"])
                self.send_response(status)
                self.end_headers()
                self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/"

    @staticmethod
    def vectors(texts):
        data = [{"index": i, "embedding": [len(t), 1, 0.5, -i]} for i, t in enumerate(texts)]
        return {"object": "list", "data": data[::-1], "usage": {"prompt_tokens": 3 * len(texts)}}


@pytest.fixture
def upstream():
    u = Upstream()
    yield u
    u.server.shutdown()
    u.server.server_close()


def serve(real_factory, tmp_path, upstream, **more):
    lines = {"url": upstream.url, "model": "their-name", "dim": DIM, "key": "env:UPSTREAM_KEY", **more}
    text = "models:\n  - name: far\n    query_prefix: 'q: '\n    upstream:\n"
    text += "".join(f"      {k}: {v}\n" for k, v in lines.items())
    (tmp_path / "c.yaml").write_text(text)
    return real_factory("--config", str(tmp_path / "c.yaml"), env={"UPSTREAM_KEY": "sk-secret", "no_proxy": "*"})


def embed(server, texts, **more):
    with server.client(timeout=60) as c:
        return c.post("/v1/embeddings", json={"model": "far", "input": texts, **more})


def test_vectors(real_factory, tmp_path, upstream):
    server = serve(real_factory, tmp_path, upstream)
    answer = embed(server, ["a", "bcd"])
    assert answer.status_code == 200, answer.text
    assert [d["embedding"] for d in answer.json()["data"]] == [[1, 1, 0.5, 0], [3, 1, 0.5, -1]]
    assert answer.json()["usage"]["prompt_tokens"] == 6
    path, body = upstream.asked[0]
    assert path == "/v1/embeddings" and body["model"] == "their-name" and body["input"] == ["a", "bcd"]
    assert upstream.keys == ["Bearer sk-secret"]
    assert embed(server, "a", input_type="query").status_code == 200
    assert upstream.asked[1][1]["input"] == ["q: a"]
    assert embed(server, [[5, 6], [7]]).status_code == 200
    assert upstream.asked[2][1]["input"] == [[5, 6], [7]]
    many = embed(server, [str(i) for i in range(300)])
    assert [d["embedding"][0] for d in many.json()["data"]] == [len(str(i)) for i in range(300)]
    assert sorted(len(b["input"]) for _, b in upstream.asked[3:]) == [44, 128, 128]
    with server.client() as c:
        model = next(m for m in c.get("/v1/models").json()["data"] if m["id"] == "far")
        assert model["capabilities"] == ["embedding"]
        refused = c.post("/v1/completions", json={"model": "far", "prompt": "a"})
        assert refused.status_code == 400


def test_passing_failures_are_tried_again(real_factory, tmp_path, upstream):
    server = serve(real_factory, tmp_path, upstream)
    upstream.first = [(429, b"slow down"), (503, b"later")]
    assert embed(server, "a").status_code == 200
    assert len(upstream.asked) == 3


def test_lasting_failures(real_factory, tmp_path, upstream):
    server = serve(real_factory, tmp_path, upstream)

    def fails(status, words, *first):
        upstream.first, before = list(first), len(upstream.asked)
        answer = embed(server, "a")
        assert answer.status_code == status, answer.text
        assert words in answer.json()["error"]["message"], answer.text
        assert "sk-secret" not in answer.text
        return len(upstream.asked) - before

    assert fails(502, "models[].upstream.key", (401, b"bad key")) == 1
    assert fails(502, "no such model", (404, b"no such model")) == 1
    assert fails(502, "no JSON", (200, b"<html>")) == 1
    assert fails(502, "another number", (200, {"data": []})) == 1
    assert fails(502, "upstream.dim", (200, {"data": [{"index": 0, "embedding": [1, 2]}]})) == 1
    assert fails(502, "an index", (200, {"data": [{"index": 1, "embedding": [1, 2, 3, 4]}]})) == 1
    assert fails(502, "a number is none", (200, {"data": [{"index": 0, "embedding": [1, 2, None, 4]}]})) == 1


def test_an_upstream_that_is_not_there(real_factory, tmp_path, upstream):
    upstream.server.shutdown()
    upstream.server.server_close()
    server = serve(real_factory, tmp_path, upstream)
    answer = embed(server, "a")
    assert answer.status_code == 502 and "The upstream of 'far' failed" in answer.json()["error"]["message"]


def test_configurations(tmp_path):
    from conftest import sluice

    for text, words in (("  - name: far\n    upstream: {url: 'http://x/v1'}\n", "dim"),
                        ("  - name: far\n    upstream: {url: 'ftp://x', dim: 4}\n", "no http or https URL"),
                        ("  - upstream: {url: 'http://x/v1', dim: 4}\n", "needs a name"),
                        ("  - name: far\n", "lacks 'path'")):
        (tmp_path / "c.yaml").write_text("models:\n" + text + f"listen: 127.0.0.1:0\ndata: {tmp_path}/data\n")
        done = sluice("serve", "--config", str(tmp_path / "c.yaml"), check=False)
        assert done.returncode != 0 and words in done.stderr.decode(), done.stderr
