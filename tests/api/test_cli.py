"""The commands as a shell sees them: exit codes, output, and errors that say what to do."""
import json
import os

import pytest

from conftest import sluice

CHAT = {"messages": [{"role": "user", "content": "Hi"}], "add_generation_prompt": True}


def fails(code, *args, stdin=None):
    r = sluice(*args, stdin=stdin, check=False)
    assert r.returncode == code, (args, r.returncode, r.stderr)
    assert r.stderr.strip(), "an error says something"
    return r.stderr.decode()


def test_help_everywhere():
    commands = ["serve", "run", "pull", "list", "show", "rm", "create", "cp", "ps", "rag", "read", "key", "user", "team", "audit", "config", "doctor", "bench", "perplexity", "tokenize",
                "template", "embed", "batch"]
    top = sluice("--help").stdout.decode()
    for c in commands:
        assert c in top
        assert "Usage: sluice " + c in sluice(c, "--help").stdout.decode()
    assert sluice("version").stdout.startswith(b"sluice ")


def test_wrong_usage():
    assert "unknown command" in fails(2, "frobnicate")
    assert "--nope" in fails(2, "serve", "--nope")
    assert "needs a value" in fails(2, "serve", "--model")
    assert "API key" in fails(2, "serve", "--listen", "0.0.0.0:0")
    assert "sluice pull" in fails(1, "show", "no-such-model")
    assert "no such file" in fails(1, "show", "./no/such.gguf")
    fails(2)


def test_tokenize_both_ways():
    for text in ("Hello, world!", "naïve 中文 🦙\n\n  x", "<|im_start|>user"):
        ids = sluice("tokenize", "-m", "smollm2", stdin=text.encode()).stdout
        assert sluice("tokenize", "-m", "smollm2", "--decode", stdin=ids).stdout.decode() == text
    plain = sluice("tokenize", "-m", "smollm2", "--no-special", stdin=b"<|im_start|>").stdout.split()
    assert len(plain) > 1
    assert "not a token id" in fails(1, "tokenize", "-m", "smollm2", "--decode", stdin=b"12 999999")


def test_template(tmp_path):
    chat = tmp_path / "chat.json"
    chat.write_text(json.dumps(CHAT))
    out = sluice("template", "-m", "smollm2", "--input", str(chat)).stdout.decode()
    assert out.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    t = tmp_path / "t.jinja"
    t.write_text("{{ bos_token }}{% for m in messages %}[{{ m.role | upper }}] {{ m['content'].strip() }}{% endfor %}")
    chat.write_text(json.dumps({**CHAT, "bos_token": "<s>"}))
    assert sluice("template", "--file", str(t), "--input", str(chat)).stdout == b"<s>[USER] Hi"
    t.write_text("{{ raise_exception('roles must alternate') }}")
    assert "roles must alternate" in fails(1, "template", "--file", str(t), "--input", str(chat))
    t.write_text("line one\n{% if %}")
    assert "line 2" in fails(1, "template", "--file", str(t), "--input", str(chat))


def test_config(tmp_path):
    good = tmp_path / "good.yaml"
    good.write_text("listen: 127.0.0.1:0\nkv:\n  memory: 64MiB\nmodels:\n  - path: smollm2\n    name: chat\n")
    assert b"right" in sluice("config", "check", str(good)).stdout
    bad = tmp_path / "bad.yaml"
    bad.write_text("listen: 127.0.0.1:0\nkv:\n  memry: 64MiB\n")
    assert "memry" in fails(2, "config", "check", str(bad))
    bad.write_text("kv:\n  memory: lots\n")
    assert "lots" in fails(2, "config", "check", str(bad))
    bad.write_text("api_keys: ['env:SLUICE_NO_SUCH_VARIABLE']\n")
    assert "SLUICE_NO_SUCH_VARIABLE" in fails(2, "config", "check", str(bad))


def test_config_names_models(tmp_path, real_factory):
    path = tmp_path / "c.yaml"
    path.write_text("engine:\n  context: 256\nloading:\n  only_configured: true\nmodels:\n  - path: smollm2\n    name: chat\n")
    server = real_factory("--config", str(path))
    with server.client() as http:
        models = http.get("/v1/models").json()["data"]
        assert [m["id"] for m in models] == ["chat"] and models[0]["max_model_len"] == 256


def test_bench_and_perplexity(tmp_path):
    report = json.loads(sluice("bench", "-m", "smollm2", "-p", "32", "-n", "4", "-b", "1,4", "-r", "2", "--json").stdout)
    assert [(r["test"], r["batch"]) for r in report["results"]] == [("prefill", 1), ("decode", 1), ("decode", 4)]
    assert all(r["median_tokens_per_s"] > 0 and len(r["tokens_per_s"]) == 2 for r in report["results"])
    text = tmp_path / "t.txt"
    text.write_text("The river runs to the sea, and the sea is never full. " * 40)
    result = json.loads(sluice("perplexity", "-m", "smollm2", "-f", str(text), "-c", "128", "--json").stdout)
    assert 1 < result["perplexity"] < 5 and result["windows"] >= 3
    assert "kl_mean" not in result
    itself = json.loads(sluice("perplexity", "-m", "smollm2", "-f", str(text), "-c", "128", "--reference", "smollm2",
                               "--json").stdout)
    assert itself["perplexity"] == result["perplexity"]
    assert abs(itself["kl_mean"]) < 1e-9 and itself["same_top"] == 1
    assert "embeddings" in fails(2, "perplexity", "-m", "smollm2", "-f", str(text), "--reference", "minilm")


def test_run_answers_a_pipe():
    out = sluice("run", "smollm2", "--temperature", "0", "-n", "8", stdin=b"Say hi.\n/clear\nSay hi.\n").stdout
    lines = [line for line in out.decode().splitlines() if line]
    assert len(lines) == 2 and lines[0] == lines[1]


def test_rag_replaces_and_removes(tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    os.symlink(os.path.join(os.environ["SLUICE_DATA"], "models"), data / "models")
    monkeypatch.setenv("SLUICE_DATA", str(data))
    doc = tmp_path / "lake.md"
    doc.write_text("# Lake Orin\n\nLake Orin is 40 metres deep.\n")
    sluice("rag", "add", str(doc))
    doc.write_text("# Lake Orin\n\nLake Orin is 70 metres deep.\n")
    sluice("rag", "add", str(doc))
    answer = json.loads(sluice("rag", "ask", "How deep is Lake Orin?", "--json").stdout)
    assert answer["citations"] and "70" in answer["citations"][0]["text"]
    cited = answer["citations"][0]
    assert doc.read_bytes()[cited["start"]:cited["end"]].decode() == cited["text"]
    assert not any("40 metres" in p["text"] for p in answer["passages"])
    assert len(json.loads(sluice("rag", "status", "--json").stdout)["documents"]) == 1
    sluice("rag", "rm", str(doc))
    assert json.loads(sluice("rag", "status", "--json").stdout)["documents"] == []
    (tmp_path / "bad.bin").write_bytes(b"\x7fELF" + bytes(60))
    failed = sluice("rag", "add", str(tmp_path / "bad.bin"), check=False)
    assert failed.returncode == 1 and b"bad.bin: " in failed.stderr


@pytest.mark.parametrize("name", ["list", "doctor"])
def test_json_is_json(name):
    assert isinstance(json.loads(sluice(name, "--json").stdout), list)
