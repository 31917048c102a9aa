"""`sluice rag add`, `status`, `show` and `rm`, alone and beside a running server."""
import http.server
import json
import os
import signal
import subprocess
import threading

import pytest

from conftest import sluice, wait_until

LAKE = "# Lakes\n\n## Orin\n\nLake Orin is 40 metres deep.\n\n## Varn\n\nLake Varn is salty.\n"


@pytest.fixture
def data(tmp_path, monkeypatch):
    if "SLUICE_DATA" not in os.environ:
        pytest.skip("SLUICE_DATA is not set")
    path = tmp_path / "data"
    path.mkdir()
    os.symlink(os.path.join(os.environ["SLUICE_DATA"], "models"), path / "models")
    monkeypatch.setenv("SLUICE_DATA", str(path))
    return path


@pytest.fixture
def docs(tmp_path):
    root = tmp_path / "docs"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "lake.md").write_text(LAKE)
    (root / "sub" / "table.csv").write_text("name,legs\nzebra,4\nspider,8\n")
    (root / "sub" / "deep" / "page.html").write_text("<html><body><h1>Title</h1><p>The heron waits.</p></body></html>")
    (root / ".hidden.md").write_text("hidden")
    (root / "program.o").write_bytes(b"\x7fELF")
    os.symlink(root, root / "sub" / "loop")
    return root


def status(*args):
    return json.loads(sluice("rag", "status", "--json", *args).stdout)


def names(*args):
    return sorted(d["name"] for d in status(*args)["documents"])


def test_add_show_status_rm(data, docs):
    out = json.loads(sluice("rag", "add", str(docs), "--collection", "notes", "--attribute", "year=2024", "--attribute",
                            "kind=note", "--access", "team:red,user:ann", "--json").stdout)
    assert (out["added"], out["failed"], out["waiting"]) == (3, 0, 0) and out["passages"] >= 4
    lake = str(docs / "lake.md")
    assert names() == sorted([lake, str(docs / "sub/table.csv"), str(docs / "sub/deep/page.html")])
    again = json.loads(sluice("rag", "add", str(docs), "--collection", "notes", "--json").stdout)
    assert (again["added"], again["unchanged"]) == (3, 3)
    s = status("--collection", "notes")
    assert s["collections"][0]["name"] == "notes" and s["collections"][0]["documents"] == 3
    assert s["jobs"] == {"in_progress": 0, "failed": 0}
    d = json.loads(sluice("rag", "show", lake, "--collection", "notes", "--json").stdout)
    assert d["attributes"] == {"year": 2024, "kind": "note"} and d["access"] == ["team:red", "user:ann"]
    assert (d["title"], d["source"]) == ("Lakes", lake)
    for p in d["passages"]:
        assert LAKE.encode()[p["begin"]:p["end"]].decode() == p["text"]
    assert [p["heading"] for p in d["passages"]] == ["Lakes > Orin", "Lakes > Varn"]
    text = sluice("rag", "show", lake, "--collection", "notes").stdout.decode()
    assert "Lake Orin is 40 metres deep." in text and "[1] bytes" in text
    sluice("rag", "rm", lake, "--collection", "notes")
    assert lake not in names()
    gone = sluice("rag", "rm", lake, "--collection", "notes", check=False)
    assert gone.returncode == 1 and b"no document" in gone.stderr


def test_failures_are_told_and_the_rest_goes_on(data, tmp_path):
    bad, good = tmp_path / "bad.pdf", tmp_path / "good.md"
    bad.write_bytes(b"%PDF-1.4\n" + os.urandom(200))
    good.write_text(LAKE)
    r = sluice("rag", "add", str(bad), str(good), str(tmp_path / "missing.md"), check=False)
    assert r.returncode == 1 and b"bad.pdf: " in r.stderr and b"missing.md" in r.stderr
    assert b"good.md: 2 passages" in r.stdout and b"some failed" in r.stdout
    s = status()
    assert s["jobs"]["failed"] == 1
    failed, = [d for d in s["documents"] if d["status"] == "failed"]
    assert failed["name"] == str(bad) and failed["error"]["code"] == "invalid_file" and failed["error"]["message"]
    assert failed["error"]["message"] in sluice("rag", "status").stdout.decode()


def test_standard_input_and_usage(data):
    sluice("rag", "add", "-", "--name", "piped.md", stdin=LAKE.encode())
    assert names() == ["piped.md"]
    for wrong in (["rag", "add"], ["rag", "fly"], ["rag", "add", "-", "--attribute", "novalue"]):
        assert sluice(*wrong, check=False, stdin=b"x").returncode == 2
    r = sluice("rag", "add", "-", "--access", "nobody", stdin=b"text", check=False)
    assert r.returncode == 1 and b"user:NAME" in r.stderr


class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/again":
            self.send_response(302)
            self.send_header("Location", "/again")
            self.end_headers()
            return
        body = {"/lake.md": LAKE.encode(), "/moved": b""}.get(self.path)
        if body is None:
            self.send_error(404)
        elif self.path == "/moved":
            self.send_response(301)
            self.send_header("Location", "/lake.md")
            self.end_headers()
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()


def test_addresses(data, site):
    for host in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "127.1", "[::ffff:127.0.0.1]", "2130706433"):
        r = sluice("rag", "add", f"http://{host}:{site}/lake.md", check=False)
        assert r.returncode == 1 and b"--allow-private" in r.stderr, host
    assert names() == []
    base = f"http://127.0.0.1:{site}"
    sluice("rag", "add", "--allow-private", base + "/moved")
    assert names() == [base + "/moved"]
    for bad in ("/none", "/again"):
        r = sluice("rag", "add", "--allow-private", base + bad, check=False)
        assert r.returncode == 1 and bad.encode() in r.stderr
    assert sluice("rag", "add", "--allow-private", "ftp://127.0.0.1/x", check=False).returncode == 1


def test_beside_a_server(data, docs, real_factory):
    server = real_factory("--model", "smollm2", "--model", "minilm", "--data", str(data))
    with server.client() as c:
        assert c.post("/v1/rag/documents", json={"name": "own.md", "text": "The heron stands."}).status_code == 200
        out = json.loads(sluice("rag", "add", str(docs), "--json").stdout)
        assert (out["added"], out["failed"], out["waiting"]) == (3, 0, 0)
        assert {d["name"] for d in c.get("/v1/rag/documents").json()["data"]} == {"own.md", *names()}
        found = c.post("/v1/rag/query", json={"question": "How deep is Lake Orin?", "search_only": True}).json()
        assert "40 metres" in found["passages"][0]["text"]
        sluice("rag", "rm", str(docs / "lake.md"))
        assert c.get(f"/v1/rag/documents{docs}/lake.md").status_code == 404


def test_watch(data, docs):
    (docs / "gone.md").write_text("It goes while nobody watches.")
    sluice("rag", "add", str(docs))
    (docs / "gone.md").unlink()
    process = subprocess.Popen([os.environ["SLUICE_BIN"], "rag", "add", str(docs), "--watch"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            if "watching" in line:
                break
        threading.Thread(target=process.stdout.read, daemon=True).start()
        assert str(docs / "gone.md") not in names()

        def chunks(path):
            return {d["name"]: d["bytes"] for d in status()["documents"] if d["status"] == "completed"}.get(str(path))

        new = docs / "sub" / "new.md"
        new.write_text("A new file.")
        wait_until(lambda: chunks(new) == 11, 30)
        new.write_text("A new file, longer.")
        wait_until(lambda: chunks(new) == 19, 30)
        (docs / "later").mkdir()
        (docs / "later" / "in.md").write_text("In a new folder.")
        wait_until(lambda: chunks(docs / "later" / "in.md") == 16, 30)
        new.rename(docs / "moved.md")
        wait_until(lambda: chunks(docs / "moved.md") == 19 and str(new) not in names(), 30)
        (docs / "moved.md").unlink()
        wait_until(lambda: str(docs / "moved.md") not in names(), 30)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
