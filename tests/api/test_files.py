"""Files and uploads through the official client, over the scripted server."""
import hashlib
import io
import os
import signal
import time

import httpx
import openai
import pytest

BYTES_MAX = 4 << 20


def client_of(server, key="any"):
    return openai.OpenAI(base_url=server.base + "/v1", api_key=key, max_retries=0,
                         http_client=httpx.Client(trust_env=False))


def wait_until(check, seconds=5):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.005)


@pytest.fixture
def start(fake_factory, tmp_path):
    def make(*keys):
        return fake_factory(*keys, env={"FAKE_DATA": str(tmp_path), "FAKE_FILE_BYTES_MAX": str(BYTES_MAX)})

    return make


@pytest.fixture
def server(start):
    return start()


@pytest.fixture
def ai(server):
    return client_of(server)


def put(ai, text=b"hello\n", name="a.jsonl", purpose="batch", **kw):
    return ai.files.create(file=(name, io.BytesIO(text)), purpose=purpose, **kw)


def test_create_get_content_delete(ai, tmp_path):
    f = put(ai, b"one\ntwo\n")
    assert f.id.startswith("file-") and f.object == "file" and f.bytes == 8
    assert (f.filename, f.purpose, f.status) == ("a.jsonl", "batch", "processed")
    assert abs(f.created_at - time.time()) < 60 and f.expires_at is None
    assert ai.files.retrieve(f.id) == f
    assert ai.files.content(f.id).read() == b"one\ntwo\n"
    assert (tmp_path / "files" / f.id).read_bytes() == b"one\ntwo\n"
    gone = ai.files.delete(f.id)
    assert gone.deleted and gone.id == f.id
    assert not (tmp_path / "files" / f.id).exists()
    for call in (ai.files.retrieve, ai.files.content, ai.files.delete):
        with pytest.raises(openai.NotFoundError) as e:
            call(f.id)
        assert e.value.code == "not_found"


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 1 << 20, BYTES_MAX])
def test_bytes_come_back(ai, size):
    body = os.urandom(size)
    f = put(ai, body)
    assert f.bytes == size and ai.files.content(f.id).read() == body


def test_boundary_like_bytes(ai):
    body = b"\r\n--\r\n--x--\r\n" * 1000 + b"\r\n-"
    assert ai.files.content(put(ai, body).id).read() == body


def test_too_large(ai, server, tmp_path):
    with pytest.raises(openai.APIStatusError) as e:
        put(ai, b"x" * (BYTES_MAX + 1))
    assert e.value.status_code == 413 and e.value.code == "request_too_large"

    def pieces():  # of unknown length: found out while it comes
        yield b'--BB\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        for _ in range(BYTES_MAX // 65536 + 2):
            yield b"y" * 65536
        yield b"\r\n--BB--\r\n"

    with server.client() as http:
        answer = http.post("/v1/files", content=pieces(), headers={"Content-Type": "multipart/form-data; boundary=BB"})
        assert answer.status_code == 413
    assert [n for n in os.listdir(tmp_path / "files") if n.startswith("tmp-")] == []
    assert ai.files.list().data == []


def test_refusals(ai, server):
    for purpose in ("batch_output", "nonsense", ""):
        with pytest.raises(openai.BadRequestError) as e:
            put(ai, purpose=purpose)
        assert e.value.param == "purpose"
    with pytest.raises(openai.BadRequestError) as e:
        put(ai, expires_after={"anchor": "created_at", "seconds": 10})
    assert e.value.param == "expires_after[seconds]"
    with pytest.raises(openai.BadRequestError) as e:
        put(ai, expires_after={"anchor": "modified", "seconds": 3600})
    assert e.value.param == "expires_after[anchor]"
    with server.client() as http:
        assert http.post("/v1/files", json={"purpose": "batch"}).status_code == 400
        assert http.post("/v1/files", data={"purpose": "batch"}).status_code == 400
        no_file = http.post("/v1/files", files={"purpose": (None, "batch")})
        assert no_file.status_code == 400 and no_file.json()["error"]["param"] == "file"
        cut = http.post("/v1/files", headers={"Content-Type": "multipart/form-data; boundary=BB"},
                        content=b'--BB\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nhalf')
        assert cut.status_code == 400
        two = http.post("/v1/files", files=[("file", ("a", b"1")), ("file", ("b", b"2")), ("purpose", (None, "batch"))])
        assert two.status_code == 400
        for query in ("limit=0", "limit=x", "limit=10001", "order=up", "after=file-none", "scope=mine"):
            assert http.get(f"/v1/files?{query}").status_code == 400, query
    assert ai.files.list().data == []


def test_expires_after(ai):
    f = put(ai, expires_after={"anchor": "created_at", "seconds": 3600})
    assert f.expires_at == f.created_at + 3600


def test_list(ai):
    made = [put(ai, name=f"{i}.txt", purpose="batch" if i % 2 else "user_data").id for i in range(7)]
    page = ai.files.list()
    assert [f.id for f in page.data] == made[::-1] and not page.has_more
    assert [f.id for f in ai.files.list(order="asc").data] == made
    assert [f.id for f in ai.files.list(purpose="batch", order="asc").data] == made[1::2]
    first = ai.files.list(limit=3, order="asc")
    assert [f.id for f in first.data] == made[:3] and first.has_more
    assert [f.id for f in ai.files.list(limit=10, order="asc", after=made[2]).data] == made[3:]
    assert [f.id for f in first] == made  # the client turns the pages


def test_only_the_owner_sees(start):
    server = start("member-alice", "member-bob", "admin-key")
    alice, bob, admin = (client_of(server, k) for k in ("member-alice", "member-bob", "admin-key"))
    f = put(alice, b"secret")
    u = alice.uploads.create(bytes=3, filename="x", mime_type="text/plain", purpose="batch")
    assert [x.id for x in alice.files.list().data] == [f.id]
    assert bob.files.list().data == [] and admin.files.list().data == []
    assert bob.files.list(extra_query={"scope": "all"}).data == []
    assert [x.id for x in admin.files.list(extra_query={"scope": "all"}).data] == [f.id]
    for call in (bob.files.retrieve, bob.files.content, bob.files.delete):
        with pytest.raises(openai.NotFoundError):
            call(f.id)
    with pytest.raises(openai.NotFoundError):
        bob.uploads.cancel(u.id)
    with pytest.raises(openai.NotFoundError):
        bob.uploads.parts.create(u.id, data=b"abc")
    with pytest.raises(openai.BadRequestError):
        bob.files.list(after=f.id)  # not even whether it is there
    assert admin.files.content(f.id).read() == b"secret"
    assert alice.files.content(f.id).read() == b"secret"


def test_wrong_key_uploads_nothing(start, tmp_path):
    server = start("good")
    with pytest.raises(openai.AuthenticationError):
        put(client_of(server, "bad"), b"x" * (1 << 20))
    assert [n for n in os.listdir(tmp_path / "files") if n.startswith(("tmp-", "file-"))] == []


def test_client_leaves_midway(server, ai, tmp_path):
    def pieces():
        yield b'--BB\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        yield b"y" * 100000
        raise ConnectionResetError

    with pytest.raises(Exception), server.client() as http:
        http.post("/v1/files", content=pieces(), headers={"Content-Type": "multipart/form-data; boundary=BB"})
    wait_until(lambda: not any(n.startswith("tmp-") for n in os.listdir(tmp_path / "files")))
    assert ai.files.list().data == []


def test_killed_while_uploading(start, tmp_path):
    server = start()
    ai = client_of(server)
    kept = put(ai, b"kept")

    def pieces():
        yield b'--BB\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        yield b"y" * 100000
        wait_until(lambda: any(n.startswith("tmp-") for n in os.listdir(tmp_path / "files")))
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        yield b"z"

    with pytest.raises(httpx.HTTPError), server.client() as http:
        http.post("/v1/files", content=pieces(), headers={"Content-Type": "multipart/form-data; boundary=BB"})
    half = [n for n in os.listdir(tmp_path / "files") if n.startswith("tmp-")]
    assert half
    for name in half:  # as if it had happened hours ago
        os.utime(tmp_path / "files" / name, (time.time() - 7200,) * 2)
    orphan = tmp_path / "files" / "file-000000000000000000000000"
    orphan.write_bytes(b"renamed, and then killed before the row was there")
    os.utime(orphan, (time.time() - 7200,) * 2)
    again = client_of(start())
    assert [f.id for f in again.files.list().data] == [kept.id]
    assert again.files.content(kept.id).read() == b"kept"
    wait_until(lambda: not any(n.startswith("tmp-") for n in os.listdir(tmp_path / "files")) and not orphan.exists())
    assert (tmp_path / "files" / kept.id).exists()


def test_upload(ai, tmp_path):
    body = os.urandom(100000)
    u = ai.uploads.create(bytes=len(body), filename="big.jsonl", mime_type="text/jsonl", purpose="batch")
    assert u.id.startswith("upload_") and u.status == "pending" and u.file is None
    assert u.expires_at == u.created_at + 3600
    second = ai.uploads.parts.create(u.id, data=body[60000:])
    first = ai.uploads.parts.create(u.id, data=body[:60000])
    assert first.id.startswith("part_") and first.upload_id == u.id and first.object == "upload.part"
    done = ai.uploads.complete(u.id, part_ids=[first.id, second.id], md5=hashlib.md5(body).hexdigest())
    assert done.status == "completed" and done.file.bytes == len(body) and done.file.filename == "big.jsonl"
    assert ai.files.content(done.file.id).read() == body
    assert sorted(n for n in os.listdir(tmp_path / "files") if n != "lock") == [done.file.id]
    with pytest.raises(openai.ConflictError):
        ai.uploads.complete(u.id, part_ids=[first.id, second.id])
    with pytest.raises(openai.ConflictError):
        ai.uploads.cancel(u.id)


def test_upload_in_chunks(ai, tmp_path):
    path = tmp_path / "source.bin"
    path.write_bytes(os.urandom(300000))
    done = ai.uploads.upload_file_chunked(file=path, mime_type="text/plain", purpose="user_data", part_size=65536)
    assert ai.files.content(done.file.id).read() == path.read_bytes()


def test_upload_refusals(ai, tmp_path):
    u = ai.uploads.create(bytes=6, filename="x", mime_type="text/plain", purpose="batch")
    a = ai.uploads.parts.create(u.id, data=b"abc")
    b = ai.uploads.parts.create(u.id, data=b"def")
    for kw in (dict(part_ids=[a.id]), dict(part_ids=[]), dict(part_ids=[a.id, a.id]),
               dict(part_ids=[a.id, "part_none"]), dict(part_ids=[a.id, b.id], md5="0" * 32)):
        with pytest.raises(openai.BadRequestError):
            ai.uploads.complete(u.id, **kw)
    with pytest.raises(openai.APIStatusError) as e:
        ai.uploads.parts.create(u.id, data=b"x" * 7)
    assert e.value.status_code == 413
    cancelled = ai.uploads.cancel(u.id)
    assert cancelled.status == "cancelled"
    assert [n for n in os.listdir(tmp_path / "files") if n.startswith(("part_", "tmp-"))] == []
    with pytest.raises(openai.ConflictError):
        ai.uploads.parts.create(u.id, data=b"abc")
    with pytest.raises(openai.NotFoundError):
        ai.uploads.cancel("upload_none")
    for kw in (dict(bytes=0), dict(bytes=9 << 30), dict(purpose="none"), dict(filename="")):
        with pytest.raises(openai.BadRequestError):
            ai.uploads.create(**{"bytes": 6, "filename": "x", "mime_type": "t", "purpose": "batch", **kw})


def test_without_a_store(fake):
    with fake.client() as http:
        for method, path in (("GET", "/v1/files"), ("POST", "/v1/files"), ("POST", "/v1/batches"), ("GET", "/v1/batches/x")):
            assert http.request(method, path).status_code == 501
