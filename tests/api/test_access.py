"""Keys, tokens, users and roles through the real binary: the commands, the admin API, real JWTs."""
import base64
import concurrent.futures
import hashlib
import hmac
import http.server
import json
import os
import signal
import threading
import time

import jwt
import openai
import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from conftest import sluice, start_real

PASSWORD = "correct horse battery"


def wait_until(check, seconds=10):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


@pytest.fixture
def data(tmp_path):
    """A data directory of its own, with the models of the shared one."""
    if not os.environ.get("SLUICE_DATA"):
        pytest.skip("SLUICE_DATA is not set")
    os.symlink(os.path.join(os.environ["SLUICE_DATA"], "models"), tmp_path / "models")
    return str(tmp_path)


@pytest.fixture
def serve(data):
    started = []

    def make(*args):
        started.append(start_real("--model", "minilm", "--data", data, *args))
        return started[-1]

    yield make
    codes = [server.stop() for server in started]
    assert set(codes) <= {0, -signal.SIGKILL}


def cli(data, *args, stdin=None, code=0):
    r = sluice(*args, "--data", data, stdin=stdin, check=False)
    assert r.returncode == code, (args, r.returncode, r.stderr)
    return r.stdout.decode() if code == 0 else r.stderr.decode()


def key(data, name, *args):
    return cli(data, "key", "create", name, *args).strip()


def get(server, path="/v1/models", token=None, **kw):
    headers = {"Authorization": "Bearer " + token} if token else {}
    with server.client() as c:
        return c.get(path, headers=headers, **kw)


def post(server, path, token=None, **body):
    headers = {"Authorization": "Bearer " + token} if token else {}
    with server.client() as c:
        return c.post(path, json=body, headers=headers)


def embed(server, token, model="minilm"):
    return post(server, "/v1/embeddings", token, model=model, input="a")


# ---- commands -------------------------------------------------------------------------------

def test_key_commands(data):
    made = json.loads(cli(data, "key", "create", "ci bot", "--scopes", "generate,embed", "--models", "mini*,smollm2",
                          "--team", "red", "--rpm", "60", "--rpd", "1000", "--tpm", "9000", "--tpd", "90000",
                          "--concurrency", "4", "--budget", "2.50", "--budget-days", "30", "--expires", "30d",
                          "--networks", "10.0.0.0/8,2001:db8::/32", "--metadata", '{"ticket": 7}', "--json"))
    assert made["key"].startswith("sk-sluice-") and len(made["key"]) == 56
    shown = json.loads(cli(data, "key", "show", "ci bot", "--json"))
    assert shown == {k: v for k, v in made.items() if k != "key"}
    assert made["key"].startswith(shown["prefix"]) and len(shown["prefix"]) == 16
    assert shown["limits"] == dict(rpm=60, rpd=1000, tpm=9000, tpd=90000, concurrency=4, request_tokens=None)
    assert shown["budget_usd"] == 2.5 and shown["budget_days"] == 30 and shown["team"] == "red"
    assert shown["models"] == ["mini*", "smollm2"] and shown["networks"] == ["10.0.0.0/8", "2001:db8::/32"]
    assert shown["permissions"] == ["generate", "embed"] and shown["metadata"] == {"ticket": 7}
    assert abs(shown["expires_at"] - time.time() - 30 * 86400) < 600
    cli(data, "key", "set", "ci bot", "--rpm", "0", "--models", "", "--expires", "never")
    changed = json.loads(cli(data, "key", "show", shown["id"], "--json"))
    assert changed["limits"]["rpm"] is None and changed["models"] == [] and changed["expires_at"] is None
    assert changed["limits"]["tpm"] == 9000
    rotated = json.loads(cli(data, "key", "rotate", "ci bot", "--overlap", "2h", "--json"))
    assert rotated["key"] != made["key"] and rotated["id"] == made["id"] and rotated["old_key_until"]
    assert json.loads(cli(data, "key", "revoke", "ci bot", "--json"))["status"] == "revoked"
    assert [k["status"] for k in json.loads(cli(data, "key", "list", "--json"))] == ["revoked"]
    assert "no key" in cli(data, "key", "show", "ci bot", code=1)
    key(data, "ci bot")  # the name is free again
    assert cli(data, "key", "list").count("ci bot") == 2
    assert [t["name"] for t in json.loads(cli(data, "team", "list", "--json"))] == ["red"]


def test_wrong_usage(data):
    for args, word in [(("--scopes", "everything"), "scopes"), (("--networks", "10.0.0.1/8"), "networks"),
                       (("--rpm", "-1"), "--rpm"), (("--rpm", "x"), "--rpm"), (("--expires", "soon"), "--expires"),
                       (("--budget", "nan"), "--budget"), (("--role", "root"), "role"),
                       (("--metadata", "[]"), "--metadata")]:
        assert word in cli(data, "key", "create", "k", *args, code=2)
    assert "no user" in cli(data, "key", "create", "k", "--user", "nobody", code=1)
    assert "one name" in cli(data, "key", "create", code=2)
    assert "key takes" in cli(data, "key", "destroy", "k", code=2)
    assert "8 to" in cli(data, "user", "add", "u", stdin=b"short\n", code=2)
    assert json.loads(cli(data, "key", "list", "--json")) == []
    key(data, "k")
    assert "already" in cli(data, "key", "create", "k", code=1)


def test_users_teams_and_audit(data):
    cli(data, "team", "add", "red", "--tpd", "1000")
    cli(data, "user", "add", "ada", "--team", "red", "--role", "operator", stdin=PASSWORD.encode() + b"\n")
    shown = json.loads(cli(data, "user", "show", "ada", "--json"))
    assert shown["role"] == "operator" and "keys.manage" in shown["permissions"] and "password" not in shown
    assert "still has" in cli(data, "team", "rm", "red", code=1)
    key(data, "hers", "--user", "ada")
    cli(data, "user", "rm", "ada")
    assert json.loads(cli(data, "key", "list", "--json"))[0]["status"] == "revoked"
    cli(data, "team", "rm", "red")
    assert "5 records" in cli(data, "audit", "verify")
    records = [json.loads(line) for line in cli(data, "audit", "list", "--json").splitlines()]
    assert [r["action"] for r in records] == ["team.create", "user.create", "key.create", "user.remove", "team.remove"]
    assert all(r["actor"].startswith("cli:") and len(r["hash"]) == 64 for r in records)
    assert PASSWORD not in json.dumps(records)


def test_audit_tells_of_damage(data):
    import sqlite3
    for i in range(3):
        key(data, f"k{i}")
    with sqlite3.connect(os.path.join(data, "access.db")) as db:
        db.execute("DROP TRIGGER audit_kept")
        db.execute("UPDATE audit SET detail = replace(detail, 'member', 'viewer') WHERE id = 2")
    assert "record 2" in cli(data, "audit", "verify", code=1)


# ---- keys at the door -----------------------------------------------------------------------

def test_door_closes_while_serving(serve, data):
    server = serve()
    assert get(server).status_code == 200
    k = key(data, "first")
    wait_until(lambda: get(server).status_code == 401)
    assert get(server, token=k).status_code == 200
    assert get(server, "/health").status_code == 200
    with server.client() as c:
        assert c.get("/v1/models", headers={"x-api-key": k}).status_code == 200
    bad = get(server, token=k[:-1] + "x")
    assert bad.status_code == 401 and bad.json()["error"]["code"] == "invalid_api_key"
    cli(data, "key", "revoke", "first")
    wait_until(lambda: get(server, token=k).status_code == 401)
    assert get(server).status_code == 401  # and it stays closed
    server.stop()
    assert get(serve()).status_code == 401


def test_real_client(serve, data):
    k = key(data, "app")
    server = serve()
    ai = openai.OpenAI(base_url=server.base + "/v1", api_key=k, max_retries=0, http_client=httpx.Client(trust_env=False))
    assert len(ai.embeddings.create(model="minilm", input="hello").data[0].embedding) == 384
    wrong = openai.OpenAI(base_url=server.base + "/v1", api_key="sk-x", max_retries=0,
                          http_client=httpx.Client(trust_env=False))
    with pytest.raises(openai.AuthenticationError):
        wrong.models.list()


def test_what_a_key_may(serve, data):
    viewer, other = key(data, "v", "--role", "viewer"), key(data, "o", "--models", "other*")
    far, near = key(data, "far", "--networks", "10.0.0.0/8"), key(data, "near", "--networks", "127.0.0.0/8")
    scoped = key(data, "s", "--scopes", "embed")
    server = serve()
    assert get(server, token=viewer).status_code == 200
    refused = embed(server, viewer)
    assert refused.status_code == 403 and refused.json()["error"]["code"] == "insufficient_permissions"
    assert embed(server, other).status_code in (403, 404)
    assert get(server, token=far).status_code == 403 and get(server, token=near).status_code == 200
    assert embed(server, scoped).status_code == 200 and get(server, token=scoped).status_code == 403
    for path in ("/admin/keys", "/admin/users", "/admin/teams", "/admin/audit"):
        assert get(server, path, token=near).status_code == 403, path
        assert get(server, path).status_code == 401, path


def test_limits_of_key_and_team(serve, data):
    """Limits that are stored here are counted in the chain; a minute may turn once meanwhile."""
    cli(data, "team", "add", "red", "--rpm", "2")
    slow, member = key(data, "slow", "--rpm", "2"), key(data, "member", "--team", "red")
    server = serve()
    for k in (slow, member):
        assert 429 in [embed(server, k).status_code for _ in range(5)]


def test_static_keys_stay(serve, data):
    server = serve("--api-key", "from-the-flag")
    assert get(server).status_code == 401
    assert get(server, token="from-the-flag").status_code == 200
    made = post(server, "/admin/keys", "from-the-flag", name="made").json()
    assert get(server, token=made["key"]).status_code == 200


def test_beyond_loopback(data):
    refused = cli(data, "serve", "--listen", "0.0.0.0:0", "--model", "minilm", code=2)
    assert "sluice key create" in refused
    assert not os.path.exists(os.path.join(data, "access.db"))
    key(data, "first")
    server = start_real("--model", "minilm", "--data", data, "--listen", "0.0.0.0:0")
    assert server.stop() == 0


def test_last_use(serve, data):
    k = key(data, "app")
    server = serve()
    assert get(server, token=k).status_code == 200
    server.stop()
    assert abs(json.loads(cli(data, "key", "show", "app", "--json"))["last_used_at"] - time.time()) < 600


# ---- admin API ------------------------------------------------------------------------------

def test_admin_keys(serve, data):
    root = key(data, "root", "--role", "admin")
    server = serve()
    made = post(server, "/admin/keys", root, name="app", rpm=5, budget_usd=0.25, models=["mini*"],
                networks=["127.0.0.1"], metadata={"a": [1]}, expires_in=3600)
    assert made.status_code == 200 and made.headers["cache-control"] == "no-store"
    made = made.json()
    assert embed(server, made["key"]).status_code == 200
    listed = get(server, "/admin/keys", root).json()
    assert listed["object"] == "list" and {k["name"] for k in listed["data"]} == {"root", "app"}
    assert made["key"] not in json.dumps(listed) and "digest" not in json.dumps(listed)
    changed = post(server, "/admin/keys/app", root, rpm=9, disabled=True).json()
    assert changed["limits"]["rpm"] == 9 and changed["budget_usd"] == 0.25 and changed["status"] == "disabled"
    assert embed(server, made["key"]).status_code == 401
    post(server, "/admin/keys/app", root, disabled=False)
    rotated = post(server, f"/admin/keys/{made['id']}/rotate", root, overlap_seconds=0).json()
    assert embed(server, made["key"]).status_code == 401 and embed(server, rotated["key"]).status_code == 200
    with server.client() as c:
        gone = c.delete("/admin/keys/app", headers={"Authorization": "Bearer " + root})
    assert gone.json()["status"] == "revoked"
    assert embed(server, rotated["key"]).status_code == 401  # at once
    actions = [r["action"] for r in get(server, "/admin/audit", root).json()["data"]]
    assert actions == ["key.create", "key.create", "key.update", "key.update", "key.rotate", "key.revoke"]
    second = get(server, "/admin/audit?after=2&limit=1", root).json()["data"]
    assert [r["id"] for r in second] == [3]
    assert second[0]["detail"]["limits"]["to"]["rpm"] == 9
    assert get(server, "/admin/audit/verify", root).json()["valid"] is True


def test_admin_refuses(serve, data):
    root, op = key(data, "root", "--role", "admin"), key(data, "op", "--role", "operator")
    server = serve()

    def refused(http, path, token=root, **body):
        r = post(server, path, token, **body)
        assert r.status_code == http, r.text
        return r.json()["error"]["message"]

    assert "rpmm" in refused(400, "/admin/keys", name="x", rpmm=5)
    assert "name" in refused(400, "/admin/keys")
    assert "rpm" in refused(400, "/admin/keys", name="x", rpm=-1)
    assert "rpm" in refused(400, "/admin/keys", name="x", rpm="5")
    assert "models" in refused(400, "/admin/keys", name="x", models="all")
    assert "networks" in refused(400, "/admin/keys", name="x", networks=["::/200"])
    assert "role" in refused(400, "/admin/keys", name="x", role="god")
    assert "expires_at" in refused(400, "/admin/keys", name="x", expires_at=5)
    assert "already" in refused(409, "/admin/keys", name="op")
    assert "no key" in refused(404, "/admin/keys/none", rpm=1)
    assert "password" in refused(400, "/admin/users", name="u", password="short")
    # Nobody gives or takes more than it has.
    assert "lack" in refused(403, "/admin/keys", op, name="x", role="admin")
    assert "lack" in refused(403, "/admin/keys", op, name="x", scopes=["users.manage"])
    assert "lack" in refused(403, "/admin/keys/root/rotate", op, overlap_seconds=0)
    assert "users.manage" in refused(403, "/admin/users", op, name="u", password=PASSWORD)
    assert post(server, "/admin/keys", op, name="x").status_code == 200
    # Only JSON that says so: what a foreign page may send without asking is not enough.
    with server.client() as c:
        r = c.post("/admin/keys", content='{"name":"y"}', headers={"Authorization": "Bearer " + root, "Content-Type": "text/plain"})
        assert r.status_code == 400 and r.json()["error"]["code"] == "unsupported_media_type"
    assert get(server, "/admin/audit?limit=x", root).status_code == 400


def test_kill_loses_no_key(serve, data):
    root = key(data, "root", "--role", "admin")
    server, made = serve(), []
    for i in range(5):
        made.append(post(server, "/admin/keys", root, name=f"k{i}").json()["key"])
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    server = serve()
    assert all(get(server, token=k).status_code == 200 for k in made)
    assert "6 records" in cli(data, "audit", "verify")


# ---- users ----------------------------------------------------------------------------------

def login(server, name="ada", password=PASSWORD):
    return post(server, "/auth/login", username=name, password=password)


@pytest.fixture
def ada(data):
    cli(data, "user", "add", "ada", "--role", "member", "--rpm", "1000", stdin=PASSWORD.encode() + b"\n")


def test_login(serve, data, ada):
    server = serve()
    r = login(server)
    assert r.status_code == 200 and r.headers["cache-control"] == "no-store"
    tokens = r.json()
    assert tokens["token_type"] == "Bearer" and tokens["expires_in"] == 900 and tokens["user"]["name"] == "ada"
    claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 900
    assert embed(server, tokens["access_token"]).status_code == 200
    assert get(server, "/admin/keys", tokens["access_token"]).status_code == 403
    assert get(server, token=tokens["refresh_token"]).status_code == 401
    wrong, unknown = login(server, password="x" * 12), login(server, "eve")
    assert wrong.status_code == unknown.status_code == 401 and wrong.json() == unknown.json()


def test_own_tokens_cannot_be_made_elsewhere(serve, data, ada):
    server = serve()
    good = login(server).json()["access_token"]
    claims = jwt.decode(good, options={"verify_signature": False})
    for secret in ("", "secret", open(os.path.join(data, "access.secret")).read().strip()):
        forged = forge({"alg": "HS256", "typ": "JWT"}, claims, secret.encode())
        assert get(server, token=forged).status_code == 401
    head, body, sig = good.split(".")
    none = b64(b'{"alg":"none"}') + "." + body + "."
    assert get(server, token=none).status_code == 401
    assert get(server, token=head + "." + body + ".").status_code == 401
    assert get(server, token=head + "." + body + "." + sig[:-4]).status_code == 401
    assert get(server, token=good).status_code == 200


def test_refresh_and_reuse(serve, data, ada):
    server = serve()
    first = login(server).json()
    other = login(server).json()
    second = post(server, "/auth/refresh", refresh_token=first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert get(server, token=second["access_token"]).status_code == 200
    again = post(server, "/auth/refresh", refresh_token=first["refresh_token"])
    assert again.status_code == 401 and "used before" in again.json()["error"]["message"]
    assert post(server, "/auth/refresh", refresh_token=second["refresh_token"]).status_code == 401
    assert get(server, token=second["access_token"]).status_code == 401  # the whole family ended
    assert get(server, token=other["access_token"]).status_code == 200  # and no other
    assert post(server, "/auth/refresh", refresh_token="rt-sluice-nonsense").status_code == 401


def test_logout_and_password(serve, data, ada):
    server = serve()
    a, b, c = (login(server).json() for _ in range(3))
    assert post(server, "/auth/logout", refresh_token=a["refresh_token"]).status_code == 200
    assert get(server, token=a["access_token"]).status_code == 401
    assert get(server, token=b["access_token"]).status_code == 200
    post(server, "/auth/logout", refresh_token=b["refresh_token"], all=True)
    assert get(server, token=c["access_token"]).status_code == 401
    d = login(server).json()
    cli(data, "user", "passwd", "ada", stdin=b"another long one\n")
    wait_until(lambda: get(server, token=d["access_token"]).status_code == 401)
    assert login(server).status_code == 401
    assert login(server, password="another long one").status_code == 200


def test_role_change_holds_at_once(serve, data, ada):
    root = key(data, "root", "--role", "admin")
    server = serve()
    token = login(server).json()["access_token"]
    assert embed(server, token).status_code == 200
    post(server, "/admin/users/ada", root, role="viewer")
    assert embed(server, token).status_code == 403  # the same token
    post(server, "/admin/users/ada", root, disabled=True)
    assert get(server, token=token).status_code == 401
    assert login(server).status_code == 401


def test_lockout(serve, data, ada, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("auth:\n  lockout:\n    failures: 3\n    base: 10m\n    max: 1h\n    address_failures: 9\n")
    server = serve("--config", str(path))
    for name in ("ada", "nobody"):
        for _ in range(3):
            assert login(server, name, "wrong password").status_code == 401
        r = login(server, name)
        assert r.status_code == 429 and 0 < int(r.headers["retry-after"]) <= 600
    assert login(server, "third", "wrong password").status_code == 401
    for i in range(9):
        last = login(server, f"n{i}", "wrong password")
    assert last.status_code == 429  # the address too
    assert get(server, "/health").status_code == 200


def test_login_storm(serve, data, ada, tmp_path):
    """More logins than there are workers are refused; everybody else is served meanwhile."""
    path = tmp_path / "c.yaml"
    path.write_text("auth:\n  lockout:\n    failures: 100000\n    address_failures: 100000\n")
    server, k = serve("--config", str(path)), key(data, "app")
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        storm = [pool.submit(login, server, "ada", "wrong password") for _ in range(300)]
        served = [embed(server, k).status_code for _ in range(10)]
        codes = {f.result().status_code for f in storm}
    assert served == [200] * 10
    assert codes <= {401, 503} and 401 in codes
    assert login(server).status_code == 200


# ---- tokens of other issuers ----------------------------------------------------------------

class Issuer:
    """An identity provider as far as Sluice sees one: a key set behind a URL."""

    def __init__(self):
        self.keys, self.fetches, self.moved = {}, 0, False
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.fetches += 1
                if issuer.moved:
                    self.send_response(302)
                    self.send_header("Location", "/elsewhere")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    issuer.moved = False
                    return
                body = json.dumps({"keys": [issuer.public(kid) for kid in issuer.keys]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def public(self, kid):
        alg, private = self.keys[kid]
        jwk = jwt.get_algorithm_by_name(alg).to_jwk(private.public_key(), as_dict=True)
        return {**jwk, "kid": kid, "use": "sig"}

    def add(self, kid, alg):
        make = {"R": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
                "P": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
                "E": lambda: ed25519.Ed25519PrivateKey.generate() if alg == "EdDSA" else
                ec.generate_private_key({"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}[alg])}
        self.keys[kid] = (alg, make[alg[0]]())

    def token(self, kid, headers=None, **claims):
        alg, private = self.keys[kid]
        body = {"iss": "https://idp.example", "aud": "sluice", "sub": "u1", "exp": int(time.time()) + 300, **claims}
        return jwt.encode({k: v for k, v in body.items() if v is not None}, private, algorithm=alg,
                          headers={"kid": kid, **(headers or {})})

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def issuer():
    i = Issuer()
    yield i
    i.stop()


def config_of(tmp_path, issuer, more=""):
    path = tmp_path / "jwt.yaml"
    path.write_text("auth:\n  jwt:\n    - issuer: https://idp.example\n      audience: sluice\n"
                    "      algorithms: [RS256, PS256, ES256, ES384, ES512, EdDSA]\n"
                    f"      jwks_url: {issuer.url}\n      refresh_floor: 1\n" + more)
    return str(path)


def b64(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forge(header, claims, secret):
    text = b64(json.dumps(header).encode()) + "." + b64(json.dumps(claims).encode())
    return text + "." + b64(hmac.new(secret, text.encode(), hashlib.sha256).digest())


def test_jwt_algorithms_and_rotation(serve, tmp_path, issuer):
    for alg in ("RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA"):
        issuer.add(alg.lower(), alg)
    server = serve("--config", config_of(tmp_path, issuer))
    assert get(server).status_code == 401
    wait_until(lambda: get(server, token=issuer.token("rs256")).status_code == 200)
    for kid in list(issuer.keys):
        assert get(server, token=issuer.token(kid)).status_code == 200, kid
    # A new key is fetched when a token names it; meanwhile the answer is "try again".
    issuer.add("new", "ES256")
    seen = set()

    def arrived():
        seen.add(get(server, token=issuer.token("new")).status_code)
        return 200 in seen

    wait_until(arrived)
    assert seen <= {200, 401, 503}
    # A key the issuer withdrew is forgotten with the next fetch, also where its token was remembered.
    token = issuer.token("ps256")
    assert get(server, token=token).status_code == 200
    del issuer.keys["ps256"]
    issuer.add("newer", "ES256")
    wait_until(lambda: get(server, token=issuer.token("newer")).status_code == 200)
    wait_until(lambda: get(server, token=token).status_code == 401)


def test_jwt_unknown_kids_do_not_flood(serve, tmp_path, issuer):
    issuer.add("k", "ES256")
    path = config_of(tmp_path, issuer).replace("jwt.yaml", "slow.yaml")
    with open(path, "w") as f:
        f.write(open(tmp_path / "jwt.yaml").read().replace("refresh_floor: 1", "refresh_floor: 3600"))
    server = serve("--config", path)
    wait_until(lambda: get(server, token=issuer.token("k")).status_code == 200)
    issuer.keys.update({f"x{i}": issuer.keys["k"] for i in range(20)})
    assert {get(server, token=issuer.token(f"x{i}")).status_code for i in range(20)} == {401}
    assert issuer.fetches == 1


def test_jwt_issuer_down(serve, tmp_path, issuer):
    issuer.add("k", "RS256")
    server = serve("--config", config_of(tmp_path, issuer))
    wait_until(lambda: get(server, token=issuer.token("k")).status_code == 200)
    issuer.stop()
    issuer.keys["other"] = issuer.keys["k"]
    wait_until(lambda: get(server, token=issuer.token("other")).status_code == 401)  # tried, and failed
    assert get(server, token=issuer.token("k", jti="fresh")).status_code == 200
    issuer.stop = lambda: None


def test_jwt_keys_that_moved(serve, tmp_path, issuer):
    """A redirect is not followed: the configured address speaks, or nobody."""
    issuer.add("k", "RS256")
    issuer.moved = True
    server = serve("--config", config_of(tmp_path, issuer))
    wait_until(lambda: get(server, token=issuer.token("k")).status_code == 200)
    assert issuer.fetches == 2


def test_jwt_attacks(serve, tmp_path, issuer):
    issuer.add("k", "RS256")
    issuer.add("e", "ES256")
    server = serve("--config", config_of(tmp_path, issuer))
    wait_until(lambda: get(server, token=issuer.token("k")).status_code == 200)
    now, public = int(time.time()), issuer.keys["k"][1].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    claims = {"iss": "https://idp.example", "aud": "sluice", "sub": "u", "exp": now + 300}
    body = b64(json.dumps(claims).encode())
    good = issuer.token("k")
    head, payload, sig = good.split(".")
    evil = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    own = {**jwt.get_algorithm_by_name("RS256").to_jwk(evil.public_key(), as_dict=True), "kid": "k"}
    bad = {
        "none": b64(b'{"alg":"none","kid":"k"}') + "." + body + ".",
        "none signed": b64(b'{"alg":"none","kid":"k"}') + "." + body + "." + sig,
        "confusion": forge({"alg": "HS256", "kid": "k"}, claims, pem),
        "confusion without kid": forge({"alg": "HS256"}, claims, pem.strip()),
        "empty secret": forge({"alg": "HS256"}, claims, b""),
        "jwk": jwt.encode(claims, evil, algorithm="RS256", headers={"jwk": own}),
        "jku": jwt.encode(claims, evil, algorithm="RS256", headers={"kid": "k", "jku": issuer.url}),
        "x5u": jwt.encode(claims, evil, algorithm="RS256", headers={"kid": "k", "x5u": issuer.url}),
        "another key": jwt.encode(claims, evil, algorithm="RS256", headers={"kid": "k"}),
        "another curve": jwt.encode(claims, ec.generate_private_key(ec.SECP384R1()), algorithm="ES384", headers={"kid": "e"}),
        "kid path": issuer.token("k", {"kid": "../../../../etc/passwd"}),
        "kid sql": issuer.token("k", {"kid": "k' OR '1'='1"}),
        "expired": issuer.token("k", exp=now - 100),
        "future": issuer.token("k", nbf=now + 1000),
        "issued later": issuer.token("k", iat=now + 1000),
        "no exp": issuer.token("k", exp=None),
        "audience": issuer.token("k", aud="other"),
        "no audience": issuer.token("k", aud=None),
        "issuer": issuer.token("k", iss="https://evil.example"),
        "oversized": issuer.token("k", pad="x" * 9000),
        "stripped": head + "." + payload + ".",
        "two parts": head + "." + payload,
        "truncated": good[:-20],
        "padded": good + "==",
        "duplicate": b64(b'{"alg":"RS256","kid":"k","alg":"none"}') + "." + body + "." + sig,
    }
    for name, token in bad.items():
        r = get(server, token=token)
        assert r.status_code in (401, 503), (name, r.status_code, r.text)
    for name, token in bad.items():  # and not because something was being fetched
        wait_until(lambda t=token: get(server, token=t).status_code == 401)
    assert get(server, token=good).status_code == 200


def test_jwt_claims(serve, tmp_path, issuer, data):
    issuer.add("k", "EdDSA")
    config = config_of(tmp_path, issuer, "      claims: {role: groups, team: team, models: models, scopes: scope}\n"
                                         "      roles:\n        - {value: llm-admins, role: admin}\n"
                                         "        - {value: everybody, role: member}\n")
    assert "right" in sluice("config", "check", config).stdout.decode()
    server = serve("--config", config)
    wait_until(lambda: get(server, token=issuer.token("k", groups=["everybody"])).status_code == 200)
    admin, member = issuer.token("k", groups=["x", "llm-admins"]), issuer.token("k", sub="u2", groups="everybody")
    assert get(server, "/admin/keys", admin).status_code == 200
    assert get(server, "/admin/keys", member).status_code == 403
    assert embed(server, member).status_code == 200
    assert get(server, token=issuer.token("k", groups=["strangers"])).status_code == 403
    assert embed(server, issuer.token("k", groups=["everybody"], models=["other"])).status_code in (403, 404)
    assert embed(server, issuer.token("k", groups=["everybody"], scope="models.read")).status_code == 403


def test_jwt_secret_and_config(serve, tmp_path):
    bad = tmp_path / "bad.yaml"
    for text, word in [("secret: short", "at least 32"), ("jwks_url: http://idp.example/keys", "https"),
                       ("secret: 0123456789abcdef0123456789abcdef\n      algorithms: [RS256]", "key set"),
                       ("jwks_file: /no/such/file", "no/such"), ("role: admin", "one of")]:
        bad.write_text(f"auth:\n  jwt:\n    - issuer: i\n      audience: a\n      {text}\n")
        r = sluice("config", "check", str(bad), check=False)
        assert r.returncode != 0 and word in r.stderr.decode(), r.stderr
    bad.write_text("auth:\n  jtw: []\n")
    assert "jtw" in sluice("config", "check", str(bad), check=False).stderr.decode()
    good = tmp_path / "good.yaml"
    secret = "0123456789abcdef0123456789abcdef"
    good.write_text(f"auth:\n  jwt:\n    - {{issuer: i, audience: a, secret: {secret}, role: viewer}}\n")
    server = serve("--config", str(good))
    token = jwt.encode({"iss": "i", "aud": ["a", "b"], "sub": "u", "exp": time.time() + 60}, secret, algorithm="HS256")
    assert get(server, token=token).status_code == 200
    assert embed(server, token).status_code == 403
