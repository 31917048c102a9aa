"""deploy/ and the workflows: a real Prometheus with our configuration scrapes the server, the alert rules have
their tests, rules and board name only metrics that there are; a real nginx passes streams on; and what is
promised of images, profiles, the unit and the workflows is what their files say."""
import configparser
import contextlib
import fnmatch
import glob
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
import yaml

from test_metrics import ROOT, documented, make, promtool, use  # noqa: F401 (make is a fixture)


# ---- a real Prometheus ------------------------------------------------------------------------------


def free_port():
    with contextlib.closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def eventually(ask, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if value := ask():
                return value
        except (httpx.HTTPError, ValueError):  # it says in words that it is not ready
            pass
        time.sleep(0.1)
    raise AssertionError("it did not happen")


def test_a_real_prometheus_scrapes(make, tmp_path):
    server = make("vllm")
    sums = use(server)
    port = free_port()
    with open(os.path.join(ROOT, "deploy", "prometheus", "prometheus.yml")) as f:
        config = f.read()
    assert "127.0.0.1:8080" in config
    config = config.replace("127.0.0.1:8080", server.base.removeprefix("http://"))
    config = re.sub(r"scrape_interval: \w+", "scrape_interval: 1s", config)
    (tmp_path / "prometheus.yml").write_text(config)
    (tmp_path / "alerts.yml").write_bytes(open(os.path.join(ROOT, "deploy", "prometheus", "alerts.yml"), "rb").read())
    process = subprocess.Popen(
        ["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/tsdb",
         f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", trust_env=False, timeout=10) as http:
            def target():
                targets = http.get("/targets").json()["data"]["activeTargets"]
                return next((t for t in targets if t["health"] == "up"), None)

            def query(expr):
                result = http.get("/query", params={"query": expr}).json()["data"]["result"]
                return float(result[0]["value"][1]) if result else None

            up = eventually(target)
            assert up["lastError"] == "" and up["labels"]["job"] == "sluice"
            output = 'sluice_tokens_total{bucket="output",model_name="smollm2"}'
            assert eventually(lambda: query(f"sum({output})")) == sums["output"]
            assert query('vllm:generation_tokens_total{model_name="smollm2"}') == sums["output"]
            p99 = query("histogram_quantile(0.99, sum by (le) (sluice_e2e_request_latency_seconds_bucket))")
            assert 0 < p99 < 600
            kinds = http.get("/metadata").json()["data"]
            assert kinds["sluice_request_queue_time_seconds"][0]["type"] == "histogram"
            rules = http.get("/rules").json()["data"]["groups"]
            assert rules and all(r["health"] in ("ok", "unknown") for g in rules for r in g["rules"])
    finally:
        process.terminate()
        process.wait(20)


# ---- deploy/ ----------------------------------------------------------------------------------------


def deploy(*path):
    return os.path.join(ROOT, "deploy", *path)


def names_of(expr):
    """Names of metrics in an expression, without the suffixes of histograms."""
    expr = re.sub(r'"(?:[^"\\]|\\.)*"', "", expr)
    names = set(re.findall(r"\b(?:sluice|process)_\w+", expr))
    table = documented()[0]
    return {n if n in table else re.sub(r"_(bucket|sum|count)$", "", n) for n in names}


def test_alert_rules():
    check = promtool("check", "rules", deploy("prometheus", "alerts.yml"))
    assert check.returncode == 0, check.stdout + check.stderr
    test = promtool("test", "rules", deploy("prometheus", "alerts_test.yml"))
    assert test.returncode == 0, test.stdout + test.stderr
    config = promtool("check", "config", deploy("prometheus", "prometheus.yml"))
    assert config.returncode == 0, config.stdout + config.stderr
    with open(deploy("prometheus", "alerts.yml")) as f:
        text = f.read()
    table = documented()[0]
    unknown = names_of(re.sub(r"#.*", "", text)) - set(table)
    assert not unknown
    alerts = set(re.findall(r"- alert: (\w+)", text))
    with open(deploy("prometheus", "alerts_test.yml")) as f:
        tested = set(re.findall(r"alertname: (\w+)", f.read()))
    assert alerts and tested == alerts, "every alert has its test"


def test_board(tmp_path):
    """Every expression parses, and names only metrics that there are."""
    with open(deploy("grafana", "sluice.json")) as f:
        board = json.load(f)
    exprs = [t["expr"] for p in board["panels"] for t in p.get("targets", [])]
    variables = [v for v in board["templating"]["list"] if v["type"] == "query"]
    assert len(exprs) > 15
    queries = [v["query"]["query"] for v in variables]
    for text in queries:
        exprs.append(re.fullmatch(r"label_values\((.*), \w+\)", text).group(1))
    table = documented()[0]
    rules = []
    for i, expr in enumerate(exprs):
        assert not names_of(expr) - set(table), expr
        assert names_of(expr) or expr.startswith("up"), expr
        expr = expr.replace("$__rate_interval", "5m").replace("$__range", "1h")
        assert "$" not in re.sub(r'"[^"]*"', "", expr), expr
        rules.append({"record": f"board:e{i}", "expr": expr})
    path = tmp_path / "board.yml"
    path.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))  # JSON is YAML
    check = promtool("check", "rules", "--lint=none", str(path))
    assert check.returncode == 0, check.stdout + check.stderr
    ids = [p["id"] for p in board["panels"]]
    assert len(ids) == len(set(ids))
    assert all(p.get("datasource", {}).get("uid") == "${datasource}" for p in board["panels"] if p["type"] != "row")


# ---- compose ----------------------------------------------------------------------------------------

DIGEST = re.compile(r"[^@]+:[^@:]+@sha256:[0-9a-f]{64}")


def load(*path):
    with open(os.path.join(ROOT, *path)) as f:
        return yaml.safe_load(f)


def compose():
    return load("deploy", "compose", "compose.yaml")


def settings():
    with open(deploy("compose", ".env")) as f:
        return dict(line.strip().split("=", 1) for line in f if "=" in line and not line.startswith("#"))


def profile(*names):
    return {name for name, s in compose()["services"].items() if set(s["profiles"]) & set(names)}


def test_profiles():
    assert profile("default") == {"sluice"}
    assert profile("gpu") == {"sluice-gpu"}
    assert profile("scale") == {"sluice-1", "sluice-2", "nginx"}
    assert profile("monitoring") == {"metrics-key", "prometheus", "grafana"}
    # Every service is in a profile, and without a word on the command line it is the first.
    assert settings()["COMPOSE_PROFILES"] == "default"
    services = compose()["services"]
    for chosen in ("default", "gpu", "scale"):
        ports = [p for name in profile(chosen, "monitoring") for p in services[name].get("ports", [])]
        assert len(ports) == len({p.split(":")[-2] for p in ports}), "two services on one port"
        for name in profile(chosen, "monitoring"):
            assert set(services[name].get("depends_on", {})) <= profile(chosen, "monitoring"), name
    devices = services["sluice-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]


def test_services_are_shut_in():
    document = compose()
    for name, s in document["services"].items():
        assert s["read_only"] is True and s["cap_drop"] == ["ALL"], name
        assert s["security_opt"] == ["no-new-privileges:true"], name
        assert re.fullmatch(r"[1-9]\d*:\d+", s["user"]), f"{name} runs as root"
        assert "privileged" not in s and "devices" not in s and s.get("network_mode") in (None, "none"), name
        assert DIGEST.fullmatch(s["image"]) or s["image"].startswith("${SLUICE_IMAGE:-sluice:"), name
        assert "latest" not in s["image"], name
        assert s["healthcheck"].get("test") or s["restart"] == "no", name
        for port in s.get("ports", []):
            assert port.startswith(("127.0.0.1:", "${SLUICE_BIND:-127.0.0.1}:")), f"{name} is open to the network"
        for volume in s.get("volumes", []):
            source, target = volume.split(":")[:2]
            if source.startswith("."):
                assert os.path.exists(deploy("compose", source)), volume
                assert volume.endswith(":ro"), volume
            else:
                assert source in document["volumes"], volume
        for key, value in (s.get("environment") or {}).items():
            if re.search("KEY|PASSWORD|TOKEN|SECRET", key):
                assert str(value).startswith("${") and ":?" in value, f"{name}: {key} is in the file"
    version = re.search(r"version: '([^']+)'", open(os.path.join(ROOT, "meson.build")).read()).group(1)
    assert document["services"]["sluice"]["image"].endswith(f"sluice:{version}}}")
    assert settings()["SLUICE_IMAGE"] == f"sluice:{version}"


def test_configuration_of_compose():
    env = {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")}
    r = subprocess.run([os.environ["SLUICE_BIN"], "config", "check", "--config", deploy("compose", "sluice.yaml")],
                       capture_output=True, text=True, env=env)
    assert r.returncode == 0, r.stderr
    # What the services are told by the environment are keys that there are.
    schema = subprocess.run([os.environ["SLUICE_BIN"], "config", "schema"], capture_output=True, text=True, check=True)
    known = set()

    def walk(node, path):
        known.add("SLUICE_" + "_".join(path).upper())
        for key, below in node.get("properties", {}).items():
            walk(below, [*path, key])

    walk(json.loads(schema.stdout), [])
    told = {k for s in compose()["services"].values() for k in (s.get("environment") or {}) if k.startswith("SLUICE_")}
    assert told and told <= known | {"SLUICE_API_KEY"}


def test_prometheus_of_compose(tmp_path):
    with open(deploy("compose", "prometheus.yml")) as f:
        text = f.read()
    mounts = {v.split(":")[1] for v in compose()["services"]["prometheus"]["volumes"]}
    assert {"/etc/prometheus/prometheus.yml", "/etc/prometheus/alerts.yml", "/run/sluice"} <= mounts
    key = load("deploy", "compose", "prometheus.yml")["scrape_configs"][0]["authorization"]["credentials_file"]
    assert key == "/run/sluice/metrics.key" and key in " ".join(compose()["services"]["metrics-key"]["command"])
    (tmp_path / "metrics.key").write_text("key")
    shutil.copy(deploy("prometheus", "alerts.yml"), tmp_path)
    (tmp_path / "prometheus.yml").write_text(text.replace(key, str(tmp_path / "metrics.key")))
    check = promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert check.returncode == 0, check.stdout + check.stderr
    names = load("deploy", "compose", "prometheus.yml")["scrape_configs"][0]["dns_sd_configs"][0]["names"]
    for name in profile("default", "gpu", "scale") - {"nginx"}:
        assert compose()["services"][name]["networks"]["inner"]["aliases"] == names


def test_metrics_key(tmp_path):
    """The command that makes Prometheus' key makes one that may do that, once, and again after it was lost."""
    service = compose()["services"]["metrics-key"]
    script = service["command"][0].replace("/run/sluice", str(tmp_path / "keys"))
    (tmp_path / "keys").mkdir()
    env = {"PATH": os.path.dirname(os.environ["SLUICE_BIN"]) + ":/usr/bin:/bin", "SLUICE_DATA": str(tmp_path / "data")}
    made = []
    for i in range(3):
        subprocess.run(["/bin/sh", "-c", script], env=env, check=True, capture_output=True)
        made.append((tmp_path / "keys" / "metrics.key").read_text())
        assert re.fullmatch(r"sk-sluice-\w+\n", made[-1])
        if i == 1:
            (tmp_path / "keys" / "metrics.key").unlink()
    assert made[0] == made[1] != made[2]
    keys = json.loads(subprocess.run([os.environ["SLUICE_BIN"], "key", "list", "--json"], env=env, check=True,
                                     capture_output=True).stdout)
    assert [(k["name"], k["scopes"]) for k in keys] == [("prometheus", ["metrics"])]


def test_grafana_is_provisioned():
    service = compose()["services"]["grafana"]
    source = load("deploy", "grafana", "provisioning", "datasources", "prometheus.yaml")["datasources"]
    assert [(d["type"], d["url"], d["isDefault"]) for d in source] == [("prometheus", "http://prometheus:9090", True)]
    provider = load("deploy", "grafana", "provisioning", "dashboards", "sluice.yaml")["providers"][0]
    mounts = dict(v.split(":")[1::-1] for v in service["volumes"])
    assert mounts["/etc/grafana/provisioning"] == "../grafana/provisioning"
    assert mounts[provider["options"]["path"] + "/sluice.json"] == "../grafana/sluice.json"
    assert service["environment"]["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert service["environment"]["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"


# ---- nginx ------------------------------------------------------------------------------------------


class Upstream(http.server.BaseHTTPRequestHandler):
    """An event, then nothing until the test has seen it; then the rest."""
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.seen.append((self.path, dict(self.headers)))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.chunk(b"data: first\n\n")
        server.go.wait(60)
        try:
            while self.path == "/endless":
                self.chunk(b": ping\n\n")
                time.sleep(0.02)
        except OSError:
            server.left.set()
            return
        self.chunk(b"data: last\n\n")
        self.chunk(b"")

    def do_POST(self):
        self.server.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *args):
        pass


@pytest.fixture
def nginx(tmp_path):
    """The configuration as it is, but for names and paths of the container."""
    if not (binary := shutil.which("nginx", path="/usr/sbin:" + os.environ["PATH"])):
        pytest.skip("there is no nginx")
    servers = []
    for _ in range(2):
        s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
        s.seen, s.go, s.left = [], threading.Event(), threading.Event()
        s.daemon_threads = True
        threading.Thread(target=s.serve_forever, daemon=True).start()
        servers.append(s)
    port = free_port()
    with open(deploy("compose", "nginx.conf")) as f:
        text = f.read()
    for i, s in enumerate(servers, 1):
        assert f"sluice-{i}:8080" in text
        text = text.replace(f"sluice-{i}:8080", f"127.0.0.1:{s.server_port}")
    text = text.replace("listen 8080", f"listen 127.0.0.1:{port}").replace("/tmp/", f"{tmp_path}/")
    text = text.replace("/dev/stderr", f"{tmp_path}/error.log")
    # Workers must reach the temporary directory when the tests are root's.
    user = "user root;\n" if os.getuid() == 0 else ""
    (tmp_path / "nginx.conf").write_text(user + text)
    check = subprocess.run([binary, "-t", "-c", tmp_path / "nginx.conf"], capture_output=True, text=True)
    assert check.returncode == 0 and "warn" not in check.stderr, check.stderr
    process = subprocess.Popen([binary, "-c", tmp_path / "nginx.conf", "-g", "daemon off;"])
    base = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=base, trust_env=False, timeout=60) as client:
        eventually(lambda: client.get("/metrics").status_code == 404)
        yield client, servers
    for s in servers:
        s.go.set()
    process.send_signal(signal.SIGTERM)
    process.wait(20)
    for s in servers:
        s.shutdown()
        s.server_close()


def test_nginx_passes_streams_on(nginx):
    client, servers = nginx
    for _ in range(4):
        for s in servers:
            s.go.clear()
        with client.stream("GET", "/v1/events", headers={"X-Forwarded-For": "6.6.6.6"}) as r:
            lines = r.iter_lines()
            assert next(lines) == "data: first"  # while the other end waits for us
            for s in servers:
                s.go.set()
            assert "data: last" in list(lines)
    seen = [headers for s in servers for _, headers in s.seen]
    assert len(seen) == 4 and all(s.seen for s in servers), "both are used"
    assert all(h["X-Forwarded-For"] == "127.0.0.1" for h in seen), "what callers write there does not count"
    assert all("Connection" not in h for h in seen)


def test_nginx_tells_that_a_client_left(nginx):
    client, servers = nginx
    for s in servers:
        s.go.set()
    with client.stream("GET", "/endless") as r:
        assert next(r.iter_lines()) == "data: first"
    eventually(lambda: any(s.left.is_set() for s in servers))


def test_nginx_goes_on_with_one(nginx):
    client, servers = nginx
    for s in servers:
        s.go.set()
    servers[0].shutdown()
    servers[0].server_close()
    body = os.urandom(3 << 20)  # more than nginx keeps in memory
    for _ in range(6):
        r = client.post("/v1/files", content=body)
        assert r.status_code == 200 and servers[1].body == body
    assert client.get("/metrics").status_code == 404


# ---- the image --------------------------------------------------------------------------------------


def dockerfile():
    with open(deploy("docker", "Dockerfile")) as f:
        text = re.sub(r"^#.*\n", "", f.read(), flags=re.M).replace("\\\n", " ")
    return [line.split(None, 1) for line in text.splitlines() if line.strip()]


def test_dockerfile():
    lines = dockerfile()
    base = next(rest for word, rest in lines if word == "ARG" and rest.startswith("BASE="))
    assert DIGEST.fullmatch(base.removeprefix("BASE=")) and "debian:bookworm-slim@" in base
    stages = [rest for word, rest in lines if word == "FROM"]
    names = [s.split(" AS ")[1] for s in stages if " AS " in s]
    assert all(s.split()[0] in ("${BASE}", "scratch", *names) for s in stages)
    assert stages[-1] == "scratch", "the result is one layer, without what was removed"
    last = lines[max(i for i, (word, _) in enumerate(lines) if word == "FROM"):]
    said = {}
    for word, rest in last:
        said.setdefault(word, []).append(rest)
    assert said["USER"] == ["10001:10001"] and "RUN" not in said and "ADD" not in {w for w, _ in lines}
    assert said["HEALTHCHECK"][0].endswith('CMD ["/usr/bin/sluice", "health", "--quiet"]')
    assert said["VOLUME"] == ["/var/lib/sluice"] and "SLUICE_DATA=/var/lib/sluice/data" in said["ENV"][0]
    assert json.loads(said["ENTRYPOINT"][0]) == ["/usr/bin/sluice"]
    assert any("sbom.spdx.json" in c for c in said["COPY"])
    whole = " ".join(rest for _, rest in lines)
    assert "tools/build.sh" in whole and "tools/install-packages.sh" in whole, "as `make build` does"
    assert not re.search(r"ARG \S*(KEY|TOKEN|PASSWORD|SECRET)", whole)


def test_context_of_the_image():
    """Only what the build reads is sent, and everything that it reads."""
    with open(os.path.join(ROOT, ".dockerignore")) as f:
        rules = [line.strip() for line in f if line.strip() and not line.startswith("#")]

    def is_sent(path):
        sent = True
        for rule in rules:
            pattern = rule.lstrip("!").removeprefix("**/")
            parts = path.split("/")
            if any(fnmatch.fnmatch("/".join(parts[:i]), pattern) for i in range(1, len(parts) + 1)):
                sent = rule.startswith("!")
        return sent

    for path in ("meson.build", "src/base/os.c", "src/api/meson.build", "tools/build.sh", "tools/packages.txt",
                 "tools/sbom.py", "tests/unit/store/test_store.c", "tests/api/fake_server.c", "bench/serve.c",
                 "web/docs.html", "LICENSE", "deploy/docker/slim.sh"):
        assert os.path.exists(os.path.join(ROOT, path)) and is_sent(path), path
    for path in (".git/config", "build/sluice", "deploy/compose/.env", "docs/deploy.md", "secret.env",
                 "tests/api/test_deploy.py", "tests/fuzz/corpus/x"):
        assert not is_sent(path), path
    for word, rest in dockerfile():
        if word == "COPY" and "--from" not in rest and not rest.startswith("."):
            assert all(is_sent(p) for p in rest.split()[:-1]), rest


def test_packages_and_sbom(tmp_path):
    binary = os.environ["SLUICE_BIN"]
    names = subprocess.run([os.path.join(ROOT, "tools", "runtime-packages.sh"), binary], capture_output=True,
                           text=True, check=True).stdout.split()
    assert {"libsqlite3-0", "libmicrohttpd12", "libarchive13", "libc6", "ca-certificates"} <= set(names)
    assert len(names) == len(set(names)) and not any(n.endswith("-dev") for n in names)
    (tmp_path / "status").write_text("Package: one\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2+b1\n\n"
                                     "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n")
    for args in (["--status", str(tmp_path / "status")], []):
        out = subprocess.run([sys.executable, os.path.join(ROOT, "tools", "sbom.py"), "--program", binary, *args],
                             capture_output=True, text=True, check=True).stdout
        bom = json.loads(out)
        assert bom["spdxVersion"] == "SPDX-2.3" and bom["dataLicense"] == "CC0-1.0"
        ids = [p["SPDXID"] for p in bom["packages"]]
        assert len(ids) == len(set(ids)) and all(re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", i) for i in ids)
        assert {r["relatedSpdxElement"] for r in bom["relationships"]} == set(ids)
        found = {p["name"]: p for p in bom["packages"]}
        assert set(found) == {"sluice", "one"} if args else set(names) <= set(found)
        assert len(found["sluice"]["checksums"][0]["checksumValue"]) == 64
        if args:
            purl = found["one"]["externalRefs"][0]["referenceLocator"]
            assert purl == "pkg:deb/debian/one@1:2%2Bb1?arch=amd64&distro=debian-12"


# ---- the first start --------------------------------------------------------------------------------


def health(*args):
    return subprocess.run([os.environ["SLUICE_BIN"], "health", *args], capture_output=True, text=True, timeout=60,
                          env={k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")})


def test_fetches_models_before_it_serves(real_factory, tmp_path):
    model = os.path.join(os.environ["SLUICE_DATA"], "models", "trees", "minilm")
    env = {"SLUICE_LOADING_PULL": f"no-such-model, {model}"}
    server = real_factory("--data", str(tmp_path / "data"), env=env)
    with server.client() as http:
        assert [m["id"] for m in http.get("/v1/models").json()["data"]] == ["minilm"]
    for ask in ([], ["--ready"]):
        r = health("--url", server.base, *ask)
        assert r.returncode == 0 and r.stdout.endswith(": ok\n"), r.stderr
    assert health("--url", server.base + "/", "--quiet").stdout == ""
    assert server.stop() == 0
    r = health("--url", server.base)
    assert r.returncode == 1 and "not well" in r.stderr and r.stdout == ""


def test_ends_while_it_fetches(tmp_path):
    """A container that is stopped during its first download stops."""
    asked, over = threading.Event(), threading.Event()

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"GGUF")
            self.wfile.flush()
            asked.set()
            over.wait(60)

        def log_message(self, *args):
            pass

    hub = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    process = subprocess.Popen(
        [os.environ["SLUICE_BIN"], "serve", "--listen", "127.0.0.1:0", "--data", str(tmp_path / "data")],
        env={**os.environ, "SLUICE_LOADING_PULL": f"http://127.0.0.1:{hub.server_port}/slow.gguf"},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        assert asked.wait(60)
        process.terminate()
        said = process.communicate(timeout=30)[1]
        assert process.returncode == 0 and b"server.ready" not in said and b"models.pulling" in said
    finally:
        process.kill()
        over.set()
        hub.shutdown()
        hub.server_close()


# ---- systemd ----------------------------------------------------------------------------------------


def unit():
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(deploy("systemd", "sluice.service"))
    return parser["Service"]


def test_unit_is_shut_in(tmp_path):
    service = unit()
    for key, value in {"User": "sluice", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes",
                       "PrivateTmp": "yes", "CapabilityBoundingSet": "", "RestrictNamespaces": "yes",
                       "StateDirectory": "sluice", "LimitNOFILE": "65536"}.items():
        assert service[key] == value, key
    assert "seccomp" in open(deploy("systemd", "sluice.service")).read().split("SystemCallFilter=")[1]
    drain = load("deploy", "compose", "sluice.yaml")["server"]["drain_seconds"]
    assert int(service["TimeoutStopSec"].rstrip("s")) > drain
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze")
    path = tmp_path / "sluice.service"
    with open(deploy("systemd", "sluice.service")) as f:
        path.write_text(f.read().replace("/usr/local/bin/sluice", os.environ["SLUICE_BIN"]))
    verify = subprocess.run(["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True)
    assert verify.returncode == 0 and "sluice.service" not in verify.stderr, verify.stderr
    security = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)],
                              capture_output=True, text=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    exposure = float(re.search(r"exposure level for \S+: ([\d.]+)", security.stdout).group(1))
    assert exposure < 2


# ---- workflows --------------------------------------------------------------------------------------


def workflows():
    return {os.path.basename(p): load(".github", "workflows", os.path.basename(p))
            for p in glob.glob(os.path.join(ROOT, ".github", "workflows", "*"))}


def test_workflows_are_there():
    assert set(workflows()) == {"build.yml", "test.yml", "image.yml", "release.yml"}


def test_workflows_trust_little():
    pins = {}
    for name, flow in workflows().items():
        assert flow["permissions"] == {}, f"{name}: jobs say what they need"
        assert flow["concurrency"]["group"]
        assert "pull_request_target" not in flow[True], name  # YAML reads `on` as true
        for job_name, job in flow["jobs"].items():
            where = f"{name}: {job_name}"
            assert job["timeout-minutes"] <= 120 and job["permissions"], where
            if name != "release.yml":
                assert job["permissions"] == {"contents": "read"}, where
            if "container" in job:
                assert DIGEST.fullmatch(job["container"]), where
            for step in job["steps"]:
                # Nothing that somebody else writes becomes part of a script, and no secret is printed.
                assert "${{" not in step.get("run", ""), f"{where}: {step.get('run')}"
                assert not re.search(r"set -x|echo.*TOKEN|printenv", step.get("run", "")), where
                if "uses" in step:
                    action, sha = step["uses"].split("@")
                    assert re.fullmatch(r"[0-9a-f]{40}", sha), step["uses"]
                    assert pins.setdefault(action, sha) == sha, f"{action} in two versions"
                    assert action.startswith("actions/"), f"{action} is a stranger's"
                    if action == "actions/checkout":
                        assert step["with"]["persist-credentials"] is False, where
    for path in glob.glob(os.path.join(ROOT, ".github", "workflows", "*")):
        with open(path) as f:
            for line in f:
                assert "uses:" not in line or re.search(r"# v\d+\.\d+\.\d+$", line.rstrip()), line


def test_release_signs_what_it_publishes():
    job = workflows()["release.yml"]["jobs"]["publish"]
    uses = [s.get("uses", "").split("@")[0] for s in job["steps"]]
    assert uses.count("actions/attest-build-provenance") == 2 and uses.count("actions/attest-sbom") == 2
    runs = " ".join(s.get("run", "") for s in job["steps"])
    assert "sha256sum" in runs and "gh release create" in runs
    assert job["permissions"]["id-token"] == "write" and job["permissions"]["attestations"] == "write"
    base = re.search(r"ARG BASE=docker.io/library/(\S+)", open(deploy("docker", "Dockerfile")).read()).group(1)
    containers = {j["container"] for f in workflows().values() for j in f["jobs"].values() if "container" in j}
    assert containers == {base}, "the same Debian everywhere"
