"""Fixtures: servers on free loopback ports, always stopped."""
import json
import os
import signal
import subprocess
import threading
import time

import httpx
import pytest


# However slow the machine is, servers of tests refuse nobody for waiting too long; test_load.c tests that.
os.environ.setdefault("SLUICE_ENGINE_WAIT_MS", "600000")


class Server:
    def __init__(self, process, base, addresses=()):
        self.process = process
        self.base = base
        self.addresses = addresses  # all of them, as "https://127.0.0.1:40123"
        self.records, self.logged = [], threading.Condition()

    def read_log(self):
        for line in self.process.stderr:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            with self.logged:
                self.records.append(record)
                self.logged.notify_all()

    def wait_for(self, event, timeout=20):
        """The next record of an event that nobody waited for yet."""
        def take():
            for i, record in enumerate(self.records):
                if record.get("event") == event:
                    return self.records.pop(i)

        with self.logged:
            found = []
            assert self.logged.wait_for(lambda: found.append(take()) or found[-1], timeout), f"no {event} was logged"
            return found[-1]

    def client(self, **kw):
        kw.setdefault("timeout", 30)
        return httpx.Client(base_url=self.base, trust_env=False, **kw)

    def stop(self, sig=signal.SIGTERM, timeout=20):
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def start_fake(*keys, env=None):
    binary = os.environ.get("SLUICE_FAKE_SERVER")
    if not binary:
        pytest.skip("SLUICE_FAKE_SERVER names no test server")
    process = subprocess.Popen([binary, *keys], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               env={**os.environ, **(env or {})})
    port = int(process.stdout.readline())
    return Server(process, f"http://127.0.0.1:{port}")


@pytest.fixture(scope="session")
def fake():
    server = start_fake()
    yield server
    assert server.stop() == 0


@pytest.fixture
def fake_factory():
    started = []

    def make(*keys, **kw):
        started.append(start_fake(*keys, **kw))
        return started[-1]

    yield make
    for server in started:
        server.stop()


def start_real(*args, env=None):
    """The real binary: `sluice serve ARGS` on a free port."""
    binary, data = os.environ.get("SLUICE_BIN"), os.environ.get("SLUICE_DATA")
    if not binary or not data:
        pytest.skip("SLUICE_BIN and SLUICE_DATA are not set")
    command = [binary, "serve", "--listen", "127.0.0.1:0", "--data", data, *args]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
    address, seen = None, []
    for line in process.stderr:
        seen.append(line)
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if record.get("event") == "server.ready":
            address, addresses = record["address"], record["addresses"].split()
            break
    if not address:
        pytest.fail("the server did not become ready:\n" + "".join(seen[-20:]))
    server = Server(process, f"http://{address}", addresses)
    # Keeps the pipe empty, so that the server never waits for us.
    threading.Thread(target=server.read_log, daemon=True).start()
    return server


@pytest.fixture(scope="session")
def real():
    server = start_real("--model", "smollm2", "--model", "minilm")
    yield server
    server.stop()


@pytest.fixture
def real_factory():
    started = []

    def make(*args, **kw):
        started.append(start_real(*args, **kw))
        return started[-1]

    yield make
    for server in started:
        server.stop()


def sluice(*args, stdin=None, check=True):
    """Runs a command of the real binary; returns the finished process."""
    binary = os.environ.get("SLUICE_BIN")
    if not binary:
        pytest.skip("SLUICE_BIN is not set")
    return subprocess.run([binary, *args], input=stdin, capture_output=True, check=check, timeout=300)


def metric(server, name):
    with server.client() as c:
        for line in c.get("/metrics").text.splitlines():
            if line.startswith(name) and line[len(name)] in " {":
                return float(line.rsplit(" ", 1)[1])
    raise AssertionError(f"no metric {name}")


def wait_until(check, seconds=10):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.005)
