"""`kill -9` at random points of the whole under load: what was acknowledged is there afterwards, once."""
import http.client
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from conftest import sluice, start_real
from test_batches import ENDS, line, read, send
from test_files import client_of

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import mkmodel  # noqa: E402

POINTS = int(os.environ.get("SLUICE_KILL_POINTS", "50"))
LINES = 150  # of a batch
RPD, TPD = 1_000_000, 100_000_000
CONFIG = """
api_keys: [boss]
models: [{{path: {model}, name: tiny}}]
threads: 1
kv: {{memory: 16MiB}}
prices: [{{model: tiny, input: 1.0, output: 2.0}}]
limits: {{models: [{{model: tiny, rpd: {rpd}, tpd: {tpd}}}]}}
"""


class Books:
    """What the servers acknowledged so far. Threads of one life at a time write it, under the lock."""

    def __init__(self):
        self.lock = threading.Lock()
        self.keys, self.revoked = {}, {}  # name -> key
        self.leaving, self.used = {}, Counter()  # keys whose revocation was asked for; requests under way by key
        self.sent = 0
        self.answered = {}  # request id -> tokens
        self.batches = {}   # id -> lines counted as done
        self.requests, self.tokens = Counter(), Counter()  # by key name, "" is all

    def answer(self, request_id, name, tokens):
        with self.lock:
            self.answered[request_id] = tokens
            for who in (name, ""):
                self.requests[who] += 1
                self.tokens[who] += tokens


class Caller:
    """One connection; raises OSError or HTTPException once the server is gone."""

    def __init__(self, server):
        host, port = server.base.removeprefix("http://").split(":")
        self.connection = http.client.HTTPConnection(host, int(port), timeout=60)

    def ask(self, method, path, key, body=None, **headers):
        if body is not None:
            body, headers["Content-Type"] = json.dumps(body), "application/json"
        self.connection.request(method, path, body, {"Authorization": "Bearer " + key, **headers})
        answer = self.connection.getresponse()
        return answer, json.loads(answer.read())


def generate(caller, books, name, key):
    with books.lock:
        books.sent += 1
        request_id = f"live-{books.sent}"
    answer, body = caller.ask("POST", "/v1/completions", key, {"model": "tiny", "prompt": "x y z", "ignore_eos": True,
                              "max_tokens": random.randint(1, 4)}, **{"x-request-id": request_id})
    assert answer.status == 200, body
    books.answer(request_id, name, body["usage"]["total_tokens"])
    return answer


def live(caller, books, stop):
    while not stop.is_set():
        with books.lock:
            name, key = random.choice(list(books.keys.items())[-8:] or [("boss", "boss")])
            books.used[name] += 1
        try:
            generate(caller, books, name, key)
        finally:
            with books.lock:
                books.used[name] -= 1
        stop.wait(random.random() * 0.02)  # batches run in the gaps


def revoke_one(caller, books):
    with books.lock:
        free = [name for name in books.keys if not books.used[name]]
        if not free:
            return
        name = random.choice(free)
        books.leaving[name] = books.keys.pop(name)  # for ever when the answer is lost: nobody knows then
    answer, body = caller.ask("DELETE", f"/admin/keys/{name}", "boss")
    assert answer.status == 200, body
    with books.lock:
        books.revoked[name] = books.leaving.pop(name)


def admin(caller, books, stop):
    for i in range(1 << 20):
        if stop.is_set():
            return
        name = f"k{i}-{random.getrandbits(32):x}"
        answer, body = caller.ask("POST", "/admin/keys", "boss", {"name": name, "rpd": RPD, "tpd": TPD})
        assert answer.status in (200, 201), body
        with books.lock:
            books.keys[name] = body["key"]
        if random.random() < 0.3:
            revoke_one(caller, books)
        stop.wait(random.random() * 0.03)


def watch_batches(caller, books, stop):
    while not stop.is_set():
        for batch_id, seen in list(books.batches.items()):
            answer, body = caller.ask("GET", f"/v1/batches/{batch_id}", "boss")
            assert answer.status == 200, body
            done = body["request_counts"]["completed"] + body["request_counts"]["failed"]
            assert done >= seen and body["status"] not in ENDS - {"completed"}, body
            books.batches[batch_id] = done
        stop.wait(0.01)


def run(work, server, books, stop, failures):
    """A thread: works until the server is gone."""
    try:
        work(Caller(server), books, stop)
    except (OSError, http.client.HTTPException):
        pass
    except Exception as e:  # what pytest has to see
        failures.append(f"{work.__name__}: {e!r}")


def check(server, books, names):
    """Right after a start: keys, counters, batches and the audit log are as they were acknowledged."""
    caller = Caller(server)
    answer, body = caller.ask("GET", "/admin/audit/verify", "boss")
    assert answer.status == 200 and body["valid"] is True, body
    for name in names:
        gone = name in books.revoked
        key = books.revoked[name] if gone else books.keys[name]
        answer, body = caller.ask("GET", "/v1/models", key)
        assert answer.status == (401 if gone else 200), (name, body)
        if not gone:
            check_counters(generate(caller, books, name, key), books, name)
    for batch_id, seen in books.batches.items():
        answer, body = caller.ask("GET", f"/v1/batches/{batch_id}", "boss")
        assert answer.status == 200 and body["request_counts"]["completed"] >= seen, body


def check_counters(answer, books, name):
    """The tightest limit is told: the model's, which all requests of the day count against."""
    remaining = {what: int(answer.headers[f"x-ratelimit-remaining-{what}"]) for what in ("requests", "tokens")}
    assert remaining["requests"] <= RPD - books.requests[""] and remaining["requests"] <= RPD - books.requests[name]
    assert remaining["tokens"] <= TPD - books.tokens[""] and remaining["tokens"] <= TPD - books.tokens[name]


def begin_batch(server, books):
    lines = [line(f"r-{i}", url="/v1/completions", model="tiny", prompt="a b", max_tokens=2, ignore_eos=True)
             for i in range(LINES)]
    books.batches[send(client_of(server, "boss"), lines, endpoint="/v1/completions").id] = 0


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def life(start, args, books):
    """From a start to a kill somewhere; every fourth one falls into the start itself."""
    if random.random() < 0.25:
        process = subprocess.Popen([os.environ["SLUICE_BIN"], "serve", "--listen", "127.0.0.1:0", *args],
                                   stderr=subprocess.DEVNULL)
        time.sleep(random.random() * 0.1)
        kill(process)
        return
    server = start()
    names = list(books.keys)[-4:] + list(books.revoked)[-2:] + random.sample(list(books.keys), min(2, len(books.keys)))
    check(server, books, names)
    if all(done == LINES for done in books.batches.values()):
        begin_batch(server, books)
    stop, failures = threading.Event(), []
    threads = [threading.Thread(target=run, args=(work, server, books, stop, failures))
               for work in (live, live, live, admin, watch_batches)]
    for t in threads:
        t.start()
    time.sleep(random.random() * 0.5)
    kill(server.process)
    stop.set()
    for t in threads:
        t.join()
    assert not failures, failures


def check_ledger(data, books):
    """One record for each acknowledged request, none twice, and with the tokens that its caller was told."""
    with sqlite3.connect(data / "usage.db") as db:
        rows = db.execute("SELECT id, fresh + cached + output FROM usage").fetchall()
    found, tokens = Counter(), {}
    for row_id, count in rows:
        request_id = row_id.split("#", 1)[1]
        found[request_id] += 1
        tokens[request_id] = count
    live_ids = [i for i in found if i.startswith("live-")]
    assert all(found[i] == 1 for i in live_ids)
    missing = set(books.answered) - set(live_ids)
    assert not missing, f"{len(missing)} of {len(books.answered)} acknowledged requests have no record"
    assert all(tokens[i] == count for i, count in books.answered.items())


def check_batches(server, books):
    ai = client_of(server, "boss")
    for batch_id in books.batches:
        end = time.monotonic() + 120
        while (b := ai.batches.retrieve(batch_id)).status not in ENDS:
            assert time.monotonic() < end, b
            time.sleep(0.02)
        good = read(ai, b.output_file_id)
        assert b.status == "completed" and b.error_file_id is None, b
        assert sorted(x["custom_id"] for x in good) == sorted(f"r-{i}" for i in range(LINES))
        assert all(x["response"]["status_code"] == 200 for x in good)


def test_killed_at_random_points(tmp_path, monkeypatch):
    if not os.environ.get("SLUICE_BIN"):
        pytest.skip("SLUICE_BIN is not set")
    data, model, config = tmp_path / "data", tmp_path / "m.gguf", tmp_path / "config.yaml"
    mkmodel.write(str(model), "llama-Q4_0")
    config.write_text(CONFIG.format(model=model, rpd=RPD, tpd=TPD))
    monkeypatch.setenv("SLUICE_DATA", str(data))
    seed = random.randrange(1 << 32)
    random.seed(seed)
    print("seed", seed, "points", POINTS)
    args, books = ["--config", str(config), "--data", str(data)], Books()
    begun = time.time()
    for _ in range(POINTS):
        life(lambda: start_real(*args), args, books)
    server = start_real(*args)
    try:
        if time.gmtime(begun).tm_yday == time.gmtime().tm_yday:  # counters of the day begin anew with it
            check(server, books, list(books.keys) + list(books.revoked))
        check_batches(server, books)
    finally:
        assert server.stop() == 0
    check_ledger(data, books)
    assert b"record" in sluice("audit", "verify", "--data", str(data)).stdout
    print(f"{time.time() - begun:.0f} s, {len(books.answered)} requests, {len(books.keys)} keys, "
          f"{len(books.revoked)} revoked, {len(books.batches)} batches")
    assert len(books.answered) > POINTS and len(books.keys) > POINTS // 2
