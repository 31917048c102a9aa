"""The server's doors: TLS and its reload, Unix sockets, proxies, limits, many idle connections."""
import json
import os
import resource
import signal
import socket
import ssl
import subprocess
import time

import httpx
import pytest

from conftest import sluice


def make_certificate(path, name):
    """A certificate for localhost, signed by itself, with its key; returns it as PEM text."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", str(path / "key.new"), "-out", str(path / "cert.new"), "-days", "20", "-subj", f"/CN={name}",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
    os.replace(path / "key.new", path / "key.pem")
    os.replace(path / "cert.new", path / "cert.pem")
    return (path / "cert.pem").read_text()


def addresses(server, prefix):
    return [a for a in server.addresses if a.startswith(prefix)]


def shown(url):
    """The certificate that a new connection is shown."""
    host, port = url.split("://")[1].split(":")
    return ssl.get_server_certificate((host, int(port)))


def wait_until(check, seconds=20):
    deadline = time.time() + seconds
    while not check():
        assert time.time() < deadline
        time.sleep(0.02)


@pytest.fixture
def tls(real_factory, tmp_path):
    def make(model, *args):
        first = make_certificate(tmp_path, "one")
        server = real_factory("--model", model, "--listen", "https://127.0.0.1:0", "--tls-certificate",
                              str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"), *args)
        return server, first, addresses(server, "https://")[0]

    return make


def test_tls_verifies(tls, tmp_path):
    server, first, url = tls("minilm")
    assert shown(url) == first
    trusted = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    with httpx.Client(verify=trusted, trust_env=False) as http:
        answer = http.post(url.replace("127.0.0.1", "localhost") + "/v1/embeddings", json={"model": "minilm", "input": "sea"})
    assert len(answer.json()["data"][0]["embedding"]) == 384
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    host, port = url[8:].split(":")
    with pytest.raises(OSError), socket.create_connection((host, int(port))) as s:
        old.wrap_socket(s)


def test_reload_while_streaming(tls, tmp_path):
    server, first, url = tls("smollm2")
    body = {"model": "smollm2", "prompt": "Once", "max_tokens": 300, "ignore_eos": True, "stream": True}
    with httpx.Client(verify=False, trust_env=False, timeout=60) as http:
        with http.stream("POST", url + "/v1/completions", json=body) as stream:
            lines = stream.iter_lines()
            next(lines)
            second = make_certificate(tmp_path, "two")
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: shown(url) == second)
            (tmp_path / "cert.pem").write_text("nonsense")
            server.process.send_signal(signal.SIGHUP)
            assert "cert.pem" in server.wait_for("tls.refused")["error"]
            assert shown(url) == second
            rest = [line for line in lines if line.startswith("data:")]
    assert rest[-1] == "data: [DONE]"
    assert len(rest) > 250


def test_unix_socket(real_factory, tmp_path):
    path = tmp_path / "door.sock"
    server = real_factory("--model", "minilm", "--listen", f"unix:{path}", "--listen", "[::1]:0")
    assert addresses(server, "unix:") == [f"unix:{path}"]
    assert path.stat().st_mode & 0o777 == 0o660
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://local", trust_env=False) as http:
        assert http.get("/v1/models").json()["data"][0]["id"] == "minilm"
        assert http.post("/v1/embeddings", json={"model": "minilm", "input": "sea"}).status_code == 200
    with httpx.Client(base_url=addresses(server, "http://[::1]")[0], trust_env=False) as http:
        assert http.get("/health").status_code == 200
    server.stop()
    assert not path.exists()
    # What a killed server leaves is no obstacle.
    again = real_factory("--model", "minilm", "--listen", f"unix:{path}")
    again.stop(signal.SIGKILL)
    assert path.exists()
    real_factory("--model", "minilm", "--listen", f"unix:{path}")


def test_listen_list(real_factory, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("listen:\n  - 127.0.0.1:0\n  - unix:" + str(tmp_path / "a.sock") + "\nmodels: [{path: minilm}]\n")
    assert b"a.sock" in sluice("config", "show", str(config)).stdout
    binary, data = os.environ["SLUICE_BIN"], os.environ["SLUICE_DATA"]
    process = subprocess.Popen([binary, "serve", "--config", str(config), "--data", data], stderr=subprocess.PIPE, text=True)
    try:
        ready = next(json.loads(line) for line in process.stderr if "server.ready" in line)
        assert len(ready["addresses"].split()) == 2 and ready["address"].startswith("127.0.0.1:")
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


def test_every_address_needs_a_key(tmp_path):
    for extra in ("0.0.0.0:0", "https://[::]:0"):
        done = sluice("serve", "--listen", "127.0.0.1:0", "--listen", extra, check=False)
        assert done.returncode == 2 and extra.encode() in done.stderr
    done = sluice("serve", "--listen", "https://127.0.0.1:0", "--model", "minilm", "--data", os.environ["SLUICE_DATA"], check=False)
    assert done.returncode == 2 and b"certificate" in done.stderr
    config = tmp_path / "config.yaml"
    config.write_text("server: {trusted_proxies: [10.0.0.1/8]}\nmodels: [{path: minilm}]\n")
    done = sluice("serve", "--listen", "127.0.0.1:0", "--config", str(config), "--data", os.environ["SLUICE_DATA"], check=False)
    assert done.returncode == 2 and b"10.0.0.1/8" in done.stderr


def test_proxies(real_factory, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("server: {trusted_proxies: [127.0.0.0/8]}\n")
    trusting = real_factory("--model", "minilm", "--config", str(config))
    plain = real_factory("--model", "minilm")
    seen = {}
    for name, server in (("trusting", trusting), ("plain", plain)):
        with server.client() as http:
            http.get("/version", headers={"X-Forwarded-For": "6.6.6.6, 203.0.113.9, 127.0.0.2"})
        seen[name] = server.wait_for("http.request")["remote"]
    assert seen == {"trusting": "203.0.113.9", "plain": "127.0.0.1"}


def test_errors_are_json(fake):
    with fake.client() as http:
        for method, path, status in (("GET", "/none", 404), ("DELETE", "/v1/chat/completions", 405), ("POST", "/health", 405)):
            answer = http.request(method, path)
            assert answer.status_code == status and answer.json()["error"]["message"]
            assert answer.headers["content-type"].startswith("application/json")
        many = [(f"x-{i}", "y") for i in range(101)]
        answer = http.get("/health", headers=many)
        assert answer.status_code == 431 and answer.json()["error"]["code"] == "too_many_headers"
        answer = http.get("/health?" + "a" * 9000)
        assert answer.status_code == 414 and answer.json()["error"]["code"] == "uri_too_long"


@pytest.mark.parametrize("body, word", [
    ('{"messages":' + "[" * 200 + "]" * 200 + "}", "nesting"),
    ('{"messages":' + '{"a":' * 5000 + "1" + "}" * 5000 + "}", "nesting"),
])
def test_json_limits(fake, body, word):
    with fake.client() as http:
        answer = http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "json_too_large" and word in answer.json()["error"]["message"]


def rss_kib(process):
    with open(f"/proc/{process.pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def test_idle_connections_are_cheap(fake_factory):
    """5,000 that were used once and stay cost under 100 MB; fewer where open files are scarce."""
    server = fake_factory()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(5000, hard - 400)
    host, port = server.base[7:].split(":")
    conns = []
    try:
        with server.client() as http:
            http.get("/health")
        before = rss_kib(server.process)
        for _ in range(count):
            s = socket.create_connection((host, int(port)))
            s.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            conns.append(s)
        for s in conns:
            assert s.recv(4096).startswith(b"HTTP/1.1 200")
        each = (rss_kib(server.process) - before) / count
        assert each < 100e6 / 1024 / 5000, f"{each:.1f} KiB for each of {count} connections"
    finally:
        for s in conns:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_scripted_models():
    """The backend of bench/gateway is in no build for users."""
    done = sluice("serve", "--listen", "127.0.0.1:0", "--model", "script:20", check=False)
    assert done.returncode == 1 and b"no model 'script:20'" in done.stderr
