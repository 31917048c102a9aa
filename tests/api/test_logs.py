"""Logs of the real binary: context of requests, what is hidden, levels, files, terminals, a crash."""
import hashlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest

from conftest import Server

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))

import mkmodel  # noqa: E402

KEY = "sk-test-0123456789abcdef"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PROMPT = [1, 40, 41, 42]


@pytest.fixture
def serve(tmp_path):
    """sluice serve with `log:` as given, its lines in a file."""
    started = []
    model = tmp_path / "tiny.gguf"
    mkmodel.write(str(model), "llama-F32")
    binary = os.environ.get("SLUICE_BIN")
    if not binary:
        pytest.skip("SLUICE_BIN is not set")

    def make(log, more="", file=True, **popen):
        config, path = tmp_path / "config.yaml", tmp_path / "log.jsonl"
        place = f"file: {path}, " if file else ""
        config.write_text(f"log: {{{place}{log}}}\napi_keys: [{KEY}]\n{more}")
        process = subprocess.Popen([binary, "serve", "--listen", "127.0.0.1:0", "--data", str(tmp_path),
                                    "--config", str(config), "--model", str(model)], **popen)
        started.append(process)
        server = Server(process, None)
        server.log, server.config = path, config
        if file:
            ready = wait_for(server, "server.ready")
            server.base = f"http://{ready['address']}"
        return server

    yield make
    for process in started:
        process.kill()
        process.wait()


def lines(server):
    return [json.loads(line) for line in server.log.read_text().splitlines()] if server.log.exists() else []


def wait_for(server, event, count=1, seconds=30, **fields):
    """The last of `count` lines of an event with such fields."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        hits = [x for x in lines(server) if x["event"] == event and fields.items() <= x.items()]
        if len(hits) >= count:
            return hits[count - 1]
        assert server.process.poll() is None or event == "process.crashed", "it ended"
        time.sleep(0.01)
    raise AssertionError(f"no {event} {fields}: {server.log.read_text()}")


def ask(server, headers=None, **fields):
    with server.client(headers={"Authorization": f"Bearer {KEY}", **(headers or {})}) as http:
        return http.post("/v1/completions", json={"prompt": PROMPT, "max_tokens": 6, "ignore_eos": True,
                                                  "temperature": 0, **fields})


def test_a_request_and_its_context(serve):
    server = serve("levels: {http: debug}")
    headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "x-request-id": "mine-1"}
    assert ask(server, headers).status_code == 200
    begin = wait_for(server, "http.accepted", request_id="mine-1")
    assert begin["trace_id"] == TRACE and begin["level"] == "debug"
    end = wait_for(server, "http.request", request_id="mine-1")
    assert end["trace_id"] == TRACE and end["key"] and end["status"] == 200 and end["level"] == "info"
    assert end["model"] == "tiny" and end["path"] == "/v1/completions" and end["output_tokens"] == 6
    assert end["total_ms"] >= end["ttft_ms"] > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", end["time"])
    assert ask(server, {"traceparent": "00-nonsense"}).status_code == 200
    assert "trace_id" not in wait_for(server, "http.request", count=2)
    assert ask(server, {"Authorization": "Bearer wrong-key-0123456789"}).status_code == 401
    refused = wait_for(server, "http.request", status=401)
    assert "key" not in refused


def test_nothing_secret_by_default(serve):
    server = serve("format: json")
    word = "unmistakable"
    with server.client(headers={"Authorization": f"Bearer {KEY}"}) as http:
        text = http.post("/v1/completions", json={"prompt": word, "max_tokens": 5}).json()
        assert http.get("/v1/models", headers={"Authorization": "Bearer eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl"})
        assert http.get(f"/nowhere/{KEY}").status_code == 404
    wait_for(server, "http.request", count=3)
    everything = server.log.read_text()
    assert word not in everything and KEY not in everything and "eyJ" not in everything
    assert "/nowhere/sk-[redacted]" in everything
    assert "prompt_bytes" not in everything and text["usage"]["completion_tokens"] > 0


def test_content(serve):
    server = serve("content: full")
    answer = ask(server, prompt="unmistakable").json()["choices"][0]["text"]
    full = wait_for(server, "http.request")
    assert full["prompt"] == "unmistakable" and full["prompt_bytes"] == 12
    assert full["answer"] == answer and full["answer_bytes"] == len(answer.encode())
    ask(server, prompt=f"a key {KEY} in a prompt")
    assert wait_for(server, "http.request", count=2)["prompt"] == "a key sk-[redacted] in a prompt"
    ask(server, prompt="long " * 10000)  # refused: it does not fit the context
    long = wait_for(server, "http.request", count=3)
    assert long["prompt_bytes"] == 50000 and len(long["prompt"]) < 17000 and long["prompt"].endswith("bytes more)")
    server.stop()
    server.log.unlink()
    server = serve("content: hash")
    ask(server, prompt="unmistakable")
    line = wait_for(server, "http.request")
    assert line["prompt"] == "sha256:" + hashlib.sha256(b"unmistakable").hexdigest()[:32]
    assert line["answer"] == "sha256:" + hashlib.sha256(answer.encode()).hexdigest()[:32]
    assert "unmistakable" not in server.log.read_text()


def test_levels_change_while_serving(serve):
    server = serve("levels: {http: error}")
    ask(server)
    config = server.config.read_text()
    server.config.write_text(config.replace("http: error", "http: debug"))
    server.process.send_signal(signal.SIGHUP)
    wait_for(server, "config.reloaded")
    ask(server, {"x-request-id": "after"})
    wait_for(server, "http.request", request_id="after")
    assert len([x for x in lines(server) if x["event"] == "http.request"]) == 1
    server.config.write_text(config.replace("http: error", "http: loud"))
    server.process.send_signal(signal.SIGHUP)
    assert "log.levels.http is 'loud'" in wait_for(server, "config.not_reloaded")["error"]


def test_rotation(serve):
    server = serve("format: json")
    ask(server, {"x-request-id": "one"})
    wait_for(server, "http.request", request_id="one")
    old = server.log.with_suffix(".1")
    server.log.rename(old)
    server.process.send_signal(signal.SIGUSR1)
    wait_for(server, "log.reopened")
    ask(server, {"x-request-id": "two"})
    wait_for(server, "http.request", request_id="two")
    assert "one" in old.read_text() and "two" not in old.read_text()
    assert server.stop() == 0
    assert lines(server)[-1]["event"] == "server.stopped"


def test_a_storm_of_refusals_is_bounded(serve):
    server = serve("repeats: 10")
    with server.client(headers={"Authorization": "Bearer wrong"}) as http:
        for _ in range(300):
            assert http.get("/v1/models").status_code == 401
    told = wait_for(server, "log.suppressed", of="http.request")
    assert told["lines"] > 0
    with server.client(headers={"Authorization": f"Bearer {KEY}"}) as http:
        for _ in range(100):
            assert http.get("/v1/models").status_code == 200
        metrics = http.get("/metrics").text
    wait_for(server, "http.request", count=100, status=200)  # what succeeded is told each time
    suppressed = int(re.search(r"^sluice_log_suppressed_total (\d+)$", metrics, re.M).group(1))
    refused = len([x for x in lines(server) if x["event"] == "http.request" and x["status"] == 401])
    assert refused + suppressed == 300
    assert re.search(r"^sluice_log_dropped_total 0$", metrics, re.M)
    assert re.search(r'^sluice_log_lines_total\{level="info"\} [1-9]', metrics, re.M)


def test_a_crash_loses_no_line(serve):
    server = serve("format: json")
    with server.client(headers={"Authorization": f"Bearer {KEY}"}) as http:
        http.get("/v1/models", headers={"x-request-id": "last"})
        http.get("/v1/models")  # on the same connection, so that the line of the first was queued before
    server.process.send_signal(signal.SIGSEGV)
    assert server.process.wait(20) == -signal.SIGSEGV
    told = lines(server)
    assert told[-1]["event"] == "process.crashed" and told[-1]["signal"] == signal.SIGSEGV
    assert [x for x in told if x.get("request_id") == "last"]


@pytest.mark.parametrize("no_color", [False, True])
def test_text_on_a_terminal(serve, no_color):
    master, slave = pty.openpty()
    env = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    server = serve("format: auto", file=False, stderr=slave, env={**env, "NO_COLOR": "1"} if no_color else env)
    os.close(slave)
    seen = b""
    while b"server.ready" not in seen or not seen.endswith(b"\n"):
        seen += os.read(master, 4096)
    server.process.terminate()
    line = [x for x in seen.decode().splitlines() if "server.ready" in x][0]
    plain = re.sub(r"\x1b\[\d+m", "", line)
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z info  server.ready address=127.0.0.1:\d+ addresses=\S+ models=1 version=", plain)
    assert ("\x1b[" in line) != no_color
    try:
        while os.read(master, 4096):
            pass
    except OSError:
        pass
    assert server.process.wait(20) == 0
    os.close(master)


@pytest.mark.parametrize("log,says", [("format: xml", "log.format is 'xml'; use auto, json or text"),
                                      ("content: some", "log.content is 'some'; use none, hash or full"),
                                      ("levels: {http: loud}", "log.levels.http is 'loud'"),
                                      ("levels: {htp: debug}", "log.levels.http"),
                                      ("file: /nowhere/at/all", "log.file: cannot open /nowhere/at/all")])
def test_wrong_words_are_refused(serve, log, says):
    server = serve(log, file=False, stderr=subprocess.PIPE)
    _, err = server.process.communicate(timeout=30)
    assert server.process.returncode in (1, 2) and says in err.decode()
