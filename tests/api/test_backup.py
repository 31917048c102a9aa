"""sluice backup and restore: beside a server under load, and with archives that mean harm."""
import contextlib
import io
import json
import os
import signal
import sqlite3
import subprocess
import tarfile
import threading
import time

import pytest

from conftest import sluice, start_real


@pytest.fixture
def data(tmp_path):
    """A data directory of its own, with the models of the shared one."""
    source = os.environ.get("SLUICE_DATA")
    if not source:
        pytest.skip("SLUICE_DATA is not set")
    (tmp_path / "data").mkdir()
    os.symlink(os.path.join(source, "models"), tmp_path / "data" / "models")
    return tmp_path / "data"


@contextlib.contextmanager
def serving(data):
    server = start_real("--model", "minilm", "--data", str(data))
    try:
        yield server
    finally:
        server.stop()


def run(*args, code=0, stdin=None):
    r = sluice(*[str(a) for a in args], stdin=stdin, check=False)
    assert r.returncode == code, (args, r.returncode, r.stderr.decode())
    return r.stdout if code == 0 else r.stderr.decode()


def content(path):
    """Every file below a directory but locks; databases as what they hold."""
    found = {}
    for root, dirs, names in os.walk(path):
        if root == str(path) and "models" in dirs:
            dirs.remove("models")
        for name in names:
            full = os.path.join(root, name)
            if name == "sluice.lock" or name.endswith(("-wal", "-shm")):
                continue
            if name.endswith(".db"):
                with contextlib.closing(sqlite3.connect(full)) as db:
                    found[os.path.relpath(full, path)] = list(db.iterdump())
            else:
                with open(full, "rb") as f:
                    found[os.path.relpath(full, path)] = f.read()
    return found


@pytest.fixture
def small(tmp_path):
    """A data directory with two keys, and an archive of it."""
    data = tmp_path / "small"
    for name in ("ann", "ben"):
        run("key", "create", name, "--data", data)
    run("backup", "--data", data, "--to", tmp_path / "small.tar.zst")
    return data, tmp_path / "small.tar.zst"


# ---- under load -------------------------------------------------------------------------------------


class Load:
    """Threads that embed, make keys and store files, and note what was acknowledged."""

    def __init__(self, server, root):
        self.server, self.root, self.stop = server, root, threading.Event()
        self.embedded, self.keys, self.files, self.wrong = [], [], [], []
        self.threads = [threading.Thread(target=self.guard, args=(f,)) for f in (self.embed, self.key, self.file)]

    def guard(self, step):
        with self.server.client(headers={"Authorization": f"Bearer {self.root}"}) as http:
            number = 0
            while not self.stop.is_set():
                try:
                    step(http, number)
                except Exception as e:  # noqa: BLE001: shown by the test
                    self.wrong.append(e)
                    return
                number += 1

    def embed(self, http, number):
        http.post("/v1/embeddings", json={"model": "minilm", "input": f"text {number}"}).raise_for_status()
        self.embedded.append(number)

    def key(self, http, number):
        made = http.post("/admin/keys", json={"name": f"key-{number}"})
        made.raise_for_status()
        self.keys.append(f"key-{number}")

    def file(self, http, number):
        body = f"file {number}\n" * 1000
        made = http.post("/v1/files", files={"file": (f"{number}.txt", body)}, data={"purpose": "user_data"})
        made.raise_for_status()
        self.files.append((made.json()["id"], body))

    def __enter__(self):
        for t in self.threads:
            t.start()
        deadline = time.monotonic() + 60
        while not all(len(seen) > 10 for seen in (self.embedded, self.keys, self.files)):
            assert not self.wrong and time.monotonic() < deadline, self.wrong
            time.sleep(0.01)
        return self

    def __exit__(self, *args):
        self.stop.set()
        for t in self.threads:
            t.join()


def requests_kept(data):
    """Requests in the ledger. A server that started has put what it found in the journals there."""
    rows = json.loads(run("usage", "--json", "--since", "1h", "--data", data))
    return sum(r["requests"] for r in rows)


def test_while_serving(data, tmp_path):
    root = run("key", "create", "root", "--role", "admin", "--data", data).decode().strip()
    taken = []
    with serving(data) as server:
        with Load(server, root) as load:
            for i in range(4):
                before = len(load.embedded), list(load.keys), list(load.files)
                to = tmp_path / (f"{i}.tar.zst" if i % 2 else f"dir-{i}")
                out = json.loads(run("backup", "--data", data, "--to", to, "--json"))
                assert out["databases"] >= 4 and out["files"] > out["databases"]
                taken.append((to, before))
            assert not load.wrong
        # The server had the directory all the time.
        assert "stop it first" in run("restore", taken[0][0], "--force", "--data", data, code=1)
        sent = len(load.embedded)
    for to, (embedded, keys, files) in taken:
        fresh = tmp_path / "restored" / to.name
        run("restore", to, "--data", fresh)
        for name in os.listdir(fresh):
            if name.endswith(".db"):
                with contextlib.closing(sqlite3.connect(fresh / name)) as db:
                    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)], name
        os.symlink(os.readlink(data / "models"), fresh / "models")
        with serving(fresh) as server:
            assert embedded <= requests_kept(fresh) <= sent
            with server.client(headers={"Authorization": f"Bearer {root}"}) as http:
                for id, body in files:
                    assert http.get(f"/v1/files/{id}/content").text == body
        have = {k["name"] for k in json.loads(run("key", "list", "--json", "--data", fresh))}
        assert have >= set(keys) and "root" in have
        assert os.stat(fresh / "access.secret").st_mode & 0o777 == 0o600


# ---- forms ------------------------------------------------------------------------------------------


def test_forms(small, tmp_path):
    data, archive = small
    (data / "notes").write_bytes(b"x" * 40_000_000)  # longer than what is read at once
    (data / "empty").write_bytes(b"")
    want = content(data)
    run("backup", "--data", data, "--to", tmp_path / "dir")
    streamed = run("backup", "--data", data, "--to", "-")
    run("restore", tmp_path / "dir", "--data", tmp_path / "a")
    run("restore", "-", "--data", tmp_path / "deep" / "down" / "b", stdin=streamed)
    assert content(tmp_path / "a") == want
    assert content(tmp_path / "deep" / "down" / "b") == want
    assert "exists" in run("backup", "--data", data, "--to", archive, code=1)
    assert "exists" in run("backup", "--data", data, "--to", tmp_path / "dir", code=1)
    assert "no data directory" in run("backup", "--data", tmp_path / "none", "--to", tmp_path / "n", code=1)
    assert os.stat(archive).st_mode & 0o777 == 0o600
    left = {n for n in os.listdir(tmp_path) if "partial" in n or "scratch" in n or "restore-" in n}
    assert not left


def test_configuration_is_kept(small, tmp_path):
    data, _ = small
    config = tmp_path / "sluice.yaml"
    config.write_text("listen: 127.0.0.1:9000\n")
    run("backup", "--data", data, "--config", config, "--to", tmp_path / "c.tar.zst")
    run("restore", tmp_path / "c.tar.zst", "--data", tmp_path / "c")
    assert (tmp_path / "c" / "restored-config.yaml").read_text() == "listen: 127.0.0.1:9000\n"


def test_models(small, tmp_path):
    """With --models they come along, trees too; without, those that are there stay."""
    data, archive = small
    blob = "sha256-" + "ab" * 32
    for name in ("blobs", "manifests", "partial", "trees/m/sub"):
        (data / "models" / name).mkdir(parents=True)
    (data / "models" / "blobs" / blob).write_bytes(b"weights")
    (data / "models" / "manifests" / "m.json").write_text("{}")
    (data / "models" / "partial" / "half").write_text("half")
    os.symlink(data / "models" / "blobs" / blob, data / "models" / "trees" / "m" / "sub" / "w.safetensors")
    for form in ("m.tar.zst", "m"):
        run("backup", "--data", data, "--models", "--to", tmp_path / form)
        fresh = tmp_path / f"fresh-{form}"
        run("restore", tmp_path / form, "--data", fresh)
        assert (fresh / "models/trees/m/sub/w.safetensors").read_bytes() == b"weights"
        assert os.path.realpath(fresh / "models/trees/m/sub/w.safetensors").startswith(str(fresh))
        assert not (fresh / "models" / "partial").exists()
    run("key", "create", "later", "--data", data)
    run("restore", archive, "--force", "--data", data)
    assert (data / "models/trees/m/sub/w.safetensors").read_bytes() == b"weights"
    assert {k["name"] for k in json.loads(run("key", "list", "--json", "--data", data))} == {"ann", "ben"}
    assert not os.path.exists(f"{data}.old")


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_whose_it_is(small, tmp_path):
    """Restored by root, it is still the service's."""
    _, archive = small
    home = tmp_path / "service"
    home.mkdir()
    os.chown(home, 12345, 12345)
    for force in ([], ["--force"]):
        run("restore", archive, "--data", home / "data", *force)
        for path in (home / "data", home / "data" / "access.db", home / "data" / "access.secret"):
            assert (os.stat(path).st_uid, os.stat(path).st_gid) == (12345, 12345), path
        os.chown(home, 0, 0)  # the second time it is the directory's owner that counts


def test_what_is_there_is_safe(small, tmp_path):
    data, archive = small
    run("key", "create", "later", "--data", data)
    was = content(data)
    assert "--force" in run("restore", archive, "--data", data, code=1)
    assert content(data) == was
    run("restore", archive, "--force", "--keep-old", "--data", data)
    assert content(f"{data}.old") == was and content(data) != was
    assert "earlier restore" in run("restore", archive, "--force", "--data", data, code=1)


def test_killed(small, tmp_path):
    """Killed at any moment, the directory is the old one or the new one."""
    data, archive = small
    new = content(data)
    run("key", "create", "later", "--data", data)
    (data / "files").mkdir()
    for i in range(200):
        (data / "files" / f"file-{i}").write_bytes(os.urandom(1000))
    run("backup", "--data", data, "--to", tmp_path / "big.tar.zst")
    big = content(data)
    outcomes = []
    for i in range(40):
        process = subprocess.Popen([os.environ["SLUICE_BIN"], "restore", str(archive if i % 2 else tmp_path / "big.tar.zst"),
                                    "--force", "--data", str(data)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.002 * i)
        process.send_signal(signal.SIGKILL)
        process.wait()
        now = content(data)
        assert now in (new, big)
        outcomes.append(now == new)
        subprocess.run(f"rm -rf '{data}.old' '{data}'.restore-*", shell=True, check=True)
    assert len(set(outcomes)) == 2


# ---- harm -------------------------------------------------------------------------------------------


def member(name, body=b"x", kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(body) if kind == tarfile.REGTYPE else 0
    return info, body


def archive_of(path, *members):
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for info, body in members:
            tar.addfile(info, io.BytesIO(body))
    return path


def manifest_of(*members):
    return member("manifest.json", json.dumps({"format": "sluice-backup", "version": 1, "created": "x",
                                               "members": list(members)}).encode())


X_SUM = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # SHA-256 of "x"


def entry(path, **fields):
    return {"path": path, "kind": "file", "bytes": 1, "sha256": X_SUM, **fields}


BLOB = "sha256-" + "0" * 64
HOSTILE = {
    "absolute": ([member("/etc/passwd")], "forbidden name"),
    "above": ([member("data/../../x")], "forbidden name"),
    "dots": ([member("data/./x")], "forbidden name"),
    "empty part": ([member("data//x")], "forbidden name"),
    "control": ([member("data/a\x07b")], "forbidden name"),
    "deep": ([member("data/" + "d/" * 40 + "x")], "forbidden name"),
    "long": ([member("data/" + "n" * 300)], "forbidden name"),
    "elsewhere": ([member("etc/passwd")], "belongs nowhere"),
    "symlink": ([member("data/x", kind=tarfile.SYMTYPE, link="/etc")], "not a regular file"),
    "hard link": ([member("data/a"), member("data/x", kind=tarfile.LNKTYPE, link="data/a")], "not a regular file"),
    "device": ([member("data/x", kind=tarfile.CHRTYPE)], "not a regular file"),
    "fifo": ([member("data/x", kind=tarfile.FIFOTYPE)], "not a regular file"),
    "twice": ([member("data/x"), member("data/x")], "cannot create"),
    "file as directory": ([member("data/x"), member("data/x/y")], "cannot create"),
    "no manifest": ([member("data/x")], "no manifest.json"),
    "two manifests": ([manifest_of(), manifest_of()], "two manifests"),
    "not named": ([member("data/x"), manifest_of()], "does not name"),
    "missing": ([manifest_of(entry("data/x"))], "lacks"),
    "other bytes": ([member("data/x", b"y"), manifest_of(entry("data/x"))], "not what was kept"),
    "other length": ([member("data/x", b"x"), manifest_of(entry("data/x", bytes=2))], "not what was kept"),
    "named twice": ([member("data/x"), manifest_of(entry("data/x"), entry("data/x"))], "twice"),
    "no database": ([member("data/x.db"), manifest_of(entry("data/x.db", kind="database"))], "database"),
    "link elsewhere": ([manifest_of({"path": "data/models/trees/l", "kind": "link", "blob": "../../x"})], "malformed"),
    "link outside of trees": ([manifest_of({"path": "data/l", "kind": "link", "blob": BLOB})], "malformed"),
    "link over a file": ([member("data/models/trees/x"), manifest_of(
        {"path": "data/models/trees/x", "kind": "link", "blob": BLOB})], "not what was kept"),
    "link above a file": ([member("data/models/trees/x/y"), manifest_of(
        {"path": "data/models/trees/x", "kind": "link", "blob": BLOB}, entry("data/models/trees/x/y"))], "cannot link"),
    "manifest names itself": ([manifest_of(entry("manifest.json"))], "no allowed name"),
    "manifest of another": ([member("manifest.json", b'{"format": "tar"}')], "not the manifest"),
    "later version": ([member("manifest.json", b'{"format": "sluice-backup", "version": 2, "created": "x", '
                              b'"members": []}')], "version 2"),
    "no JSON": ([member("manifest.json", b"{" * 100_000)], "manifest.json"),
    "bomb": ([member("data/x", bytes(5_000_000))], "room for"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(name, small, tmp_path):
    data, _ = small
    members, says = HOSTILE[name]
    was, beside = content(data), sorted(os.listdir(tmp_path))
    archive = archive_of(tmp_path / "bad.tar", *members)
    text = run("restore", archive, "--force", "--data", data, "--max-bytes", "2MiB", code=1)
    assert says in text, text
    assert content(data) == was
    archive.unlink()
    assert sorted(os.listdir(tmp_path)) == beside


def test_a_bomb_costs_what_is_allowed(small, tmp_path):
    """Kilobytes that unpack to gigabytes end at the limit."""
    data, _ = small
    tar = tarfile.TarInfo("data/x")
    tar.size = 4 << 30
    with open(tmp_path / "bomb.tar.zst", "wb") as out:
        z = subprocess.Popen(["zstd", "-q", "-c"], stdin=subprocess.PIPE, stdout=out)
        z.stdin.write(tar.tobuf())
        for _ in range(64):
            z.stdin.write(bytes(1 << 20))
        z.stdin.close()
        assert z.wait() == 0
    assert os.path.getsize(tmp_path / "bomb.tar.zst") < 100_000
    assert "room for" in run("restore", tmp_path / "bomb.tar.zst", "--force", "--data", data, "--max-bytes", "16MiB",
                             code=1)


def test_damaged(small, tmp_path):
    """Cut off or changed anywhere, it is refused or is what it was; the directory stays."""
    data, archive = small
    want = content(data)
    raw = archive.read_bytes()
    bad = tmp_path / "bad.tar.zst"
    refused = 0
    for i in range(0, len(raw), max(1, len(raw) // 60)):
        for changed in (raw[:i], raw[:i] + bytes([raw[i] ^ 0x55]) + raw[i + 1:]):
            bad.write_bytes(changed)
            r = sluice("restore", str(bad), "--force", "--data", str(data), check=False)
            assert r.returncode in (0, 1), r.stderr
            refused += r.returncode
            assert content(data) == want
    assert refused >= 100
