"""OpenAI's vector stores through its official client: real documents over a scripted embedder."""
import io
import time

import httpx
import openai
import pytest

ZEBRA = b"# Animals\n\n## Zebra\n\nThe zebra grazes savanna grassland in herds.\n\n## Walrus\n\nThe walrus hunts clams below ice.\n"
ENGINE = b"# Engines\n\nThe diesel engine ignites fuel through compression.\n"


def client_of(server, key="any"):
    return openai.OpenAI(base_url=server.base + "/v1", api_key=key, max_retries=0,
                         http_client=httpx.Client(trust_env=False))


@pytest.fixture
def start(fake_factory, tmp_path):
    def make(*keys):
        return fake_factory(*keys, env={"FAKE_DATA": str(tmp_path), "FAKE_DOCS": "1"})

    return make


@pytest.fixture
def server(start):
    return start()


@pytest.fixture
def ai(server):
    return client_of(server)


def put(ai, text, name):
    return ai.files.create(file=(name, io.BytesIO(text)), purpose="assistants")


def test_store_lifecycle(ai):
    store = ai.vector_stores.create(name="Support", description="what we know", metadata={"team": "a"},
                                    expires_after={"anchor": "last_active_at", "days": 7})
    assert store.id.startswith("vs_") and store.object == "vector_store" and store.status == "completed"
    assert (store.name, store.metadata) == ("Support", {"team": "a"})
    assert store.expires_after.days == 7 and store.expires_at == store.last_active_at + 7 * 86400
    assert abs(store.created_at - time.time()) < 60
    assert store.file_counts.total == 0 and store.usage_bytes == 0
    assert ai.vector_stores.retrieve(store.id) == store
    changed = ai.vector_stores.update(store.id, name="Help", metadata={"x": "y"}, expires_after=None)
    assert changed.name == "Help" and changed.metadata == {"x": "y"} and changed.expires_after is None
    assert changed.expires_at is None
    gone = ai.vector_stores.delete(store.id)
    assert gone.deleted and gone.id == store.id and gone.object == "vector_store.deleted"
    for call in (ai.vector_stores.retrieve, ai.vector_stores.delete):
        with pytest.raises(openai.NotFoundError) as e:
            call(store.id)
        assert e.value.code == "not_found"


def test_stores_of_one_name(ai):
    a, b = ai.vector_stores.create(name="twice"), ai.vector_stores.create(name="twice")
    assert a.id != b.id and a.name == b.name == "twice"
    assert ai.vector_stores.create().name


def test_list_pages(ai):
    made = [ai.vector_stores.create(name=f"s{i}").id for i in range(5)]
    assert [s.id for s in ai.vector_stores.list(limit=2)] == made[::-1]  # all pages
    assert [s.id for s in ai.vector_stores.list(limit=2, order="asc")] == made
    page = ai.vector_stores.list(limit=2, order="asc", after=made[1])
    assert [s.id for s in page.data] == made[2:4] and page.has_more
    page = ai.vector_stores.list(limit=2, order="asc", before=made[3])
    assert [s.id for s in page.data] == made[1:3] and page.has_more
    page = ai.vector_stores.list(limit=2, before=made[3])
    assert [s.id for s in page.data] == [made[4]] and not page.has_more
    for bad in ({"limit": 0}, {"limit": 101}, {"order": "up"}, {"after": "vs_none"}):
        with pytest.raises(openai.BadRequestError):
            ai.vector_stores.list(**bad)


def test_upload_and_poll_search_delete(ai):
    store = ai.vector_stores.create(name="zoo")
    f = ai.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("animals.md", io.BytesIO(ZEBRA)),
                                               attributes={"year": 2024, "kind": "zoo", "open": True})
    assert f.status == "completed" and f.object == "vector_store.file" and f.last_error is None
    assert f.id.startswith("file-") and f.vector_store_id == store.id and f.usage_bytes == len(ZEBRA)
    assert f.attributes == {"year": 2024, "kind": "zoo", "open": True}
    now = ai.vector_stores.retrieve(store.id)
    assert now.file_counts.completed == now.file_counts.total == 1 and now.usage_bytes == len(ZEBRA)

    found = ai.vector_stores.search(store.id, query="zebra savanna")
    assert found.data[0].file_id == f.id and found.data[0].filename == "animals.md"
    assert "zebra grazes" in found.data[0].content[0].text and found.data[0].content[0].type == "text"
    assert found.data[0].attributes["year"] == 2024 and 0 <= found.data[0].score <= 1
    both = ai.vector_stores.search(store.id, query=["zebra", "walrus"], max_num_results=2)
    assert len({r.content[0].text for r in both.data}) == 2

    assert ai.vector_stores.files.content(f.id, vector_store_id=store.id).data[0].text == ZEBRA.decode()
    changed = ai.vector_stores.files.update(f.id, vector_store_id=store.id, attributes={"year": 1999})
    assert changed.attributes == {"year": 1999}
    assert ai.vector_stores.files.retrieve(f.id, vector_store_id=store.id).attributes == {"year": 1999}
    gone = ai.vector_stores.files.delete(f.id, vector_store_id=store.id)
    assert gone.deleted and gone.object == "vector_store.file.deleted"
    assert ai.vector_stores.search(store.id, query="zebra savanna").data == []
    assert ai.files.retrieve(f.id).filename == "animals.md"  # the stored file stays
    with pytest.raises(openai.NotFoundError):
        ai.vector_stores.files.retrieve(f.id, vector_store_id=store.id)


def test_filters_and_ranking(ai):
    store = ai.vector_stores.create(name="years")
    for year in (2001, 2002, 2003):
        ai.vector_stores.files.upload_and_poll(vector_store_id=store.id, attributes={"year": year, "odd": year % 2 == 1},
                                               file=(f"{year}.txt", io.BytesIO(b"zebra report of %d" % year)))

    def names(filters):
        found = ai.vector_stores.search(store.id, query="zebra report", filters=filters)
        return sorted(r.filename for r in found.data)

    assert names({"type": "eq", "key": "year", "value": 2002}) == ["2002.txt"]
    assert names({"type": "gt", "key": "year", "value": 2001}) == ["2002.txt", "2003.txt"]
    assert names({"type": "and", "filters": [{"type": "gte", "key": "year", "value": 2001},
                                             {"type": "eq", "key": "odd", "value": True}]}) == ["2001.txt", "2003.txt"]
    assert names({"type": "eq", "key": "nowhere", "value": 1}) == []
    none = ai.vector_stores.search(store.id, query="zebra report", ranking_options={"ranker": "none"}, max_num_results=1)
    assert len(none.data) == 1
    with pytest.raises(openai.BadRequestError):
        ai.vector_stores.search(store.id, query="zebra", filters={"type": "like", "key": "year", "value": 1})


def test_batches(ai):
    store = ai.vector_stores.create(name="many")
    files = [put(ai, b"# Note %d\n\nzebra number%d grazes" % (i, i), "note.md").id for i in range(12)]
    batch = ai.vector_stores.file_batches.create_and_poll(store.id, file_ids=files)
    assert batch.id.startswith("vsfb_") and batch.object == "vector_store.files_batch"
    assert batch.status == "completed" and batch.file_counts.completed == batch.file_counts.total == 12
    listed = list(ai.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id, limit=5))
    assert sorted(f.id for f in listed) == sorted(files)  # files of one name are none the less several
    assert {r.filename for r in ai.vector_stores.search(store.id, query="number7").data[:1]} == {"note.md"}
    up = ai.vector_stores.file_batches.upload_and_poll(
        store.id, files=[("a.md", io.BytesIO(ZEBRA)), ("b.md", io.BytesIO(ENGINE))])
    assert up.file_counts.completed == 2
    assert ai.vector_stores.retrieve(store.id).file_counts.total == 14


def test_batch_with_attributes_and_failures(ai):
    store = ai.vector_stores.create(name="mixed")
    good, bad = put(ai, ZEBRA, "a.md"), put(ai, b"\x7fELF\x01\x01\x00\x00" * 8, "a.bin")
    batch = ai.vector_stores.file_batches.create_and_poll(
        store.id, files=[{"file_id": good.id, "attributes": {"n": 1},
                          "chunking_strategy": {"type": "static", "static": {"max_chunk_size_tokens": 100,
                                                                            "chunk_overlap_tokens": 20}}},
                         {"file_id": bad.id}])
    assert (batch.file_counts.completed, batch.file_counts.failed, batch.file_counts.total) == (1, 1, 2)
    f = ai.vector_stores.files.retrieve(good.id, vector_store_id=store.id)
    assert f.attributes == {"n": 1} and f.chunking_strategy.static.max_chunk_size_tokens == 100
    failed = list(ai.vector_stores.files.list(store.id, filter="failed"))
    assert [f.id for f in failed] == [bad.id] and failed[0].last_error.code == "unsupported_file"
    assert failed[0].last_error.message
    assert [f.id for f in ai.vector_stores.files.list(store.id, filter="completed")] == [good.id]
    again = ai.vector_stores.file_batches.cancel(batch.id, vector_store_id=store.id)
    assert again.status == "completed"  # nothing was left to cancel


def test_refusals(ai):
    store = ai.vector_stores.create()
    with pytest.raises(openai.NotFoundError):
        ai.vector_stores.files.create(store.id, file_id="file-none")
    f = put(ai, ZEBRA, "a.md")
    with pytest.raises(openai.NotFoundError):
        ai.vector_stores.files.create("vs_none", file_id=f.id)
    with pytest.raises(openai.NotFoundError):
        ai.vector_stores.search("vs_none", query="zebra")
    with pytest.raises(openai.BadRequestError) as e:
        ai.vector_stores.files.create(store.id, file_id=f.id, attributes={str(i): i for i in range(17)})
    assert e.value.param == "attributes"
    with pytest.raises(openai.BadRequestError):
        ai.vector_stores.files.create(store.id, file_id=f.id, attributes={"a": [1]})
    with pytest.raises(openai.BadRequestError):
        ai.vector_stores.file_batches.create(store.id, file_ids=[])
    with pytest.raises(openai.BadRequestError):
        ai.vector_stores.create(chunking_strategy={"type": "static", "static": {"max_chunk_size_tokens": 100,
                                                                                "chunk_overlap_tokens": 51}})
    with pytest.raises(openai.BadRequestError):
        ai.vector_stores.create(expires_after={"anchor": "last_active_at", "days": 366})
    with pytest.raises(openai.BadRequestError):
        ai.vector_stores.create(metadata={"a": "x" * 513})
    with pytest.raises(openai.BadRequestError):
        ai.vector_stores.search(store.id, query=[])
    with pytest.raises(openai.BadRequestError):
        ai.vector_stores.create(name="x", file_ids=[1])


def test_create_with_files(ai):
    files = [put(ai, ZEBRA, "a.md").id, put(ai, ENGINE, "b.md").id]
    store = ai.vector_stores.create(name="begun", file_ids=files)
    assert store.file_counts.total == 2
    while ai.vector_stores.retrieve(store.id).status == "in_progress":
        time.sleep(0.01)
    assert ai.vector_stores.retrieve(store.id).file_counts.completed == 2
    with pytest.raises(openai.NotFoundError):
        ai.vector_stores.create(name="not begun", file_ids=["file-none"])
    assert "not begun" not in [s.name for s in ai.vector_stores.list()]


def test_native_documents(server):
    with server.client() as c:
        r = c.post("/v1/rag/documents", json={"name": "a/b.md", "text": ZEBRA.decode(), "collection": "zoo",
                                              "attributes": {"n": 1}, "source": "https://zoo.example/a"})
        assert r.status_code == 200 and r.json()["status"] == "completed" and r.json()["chunks"] == 2
        d = r.json()
        assert c.get("/v1/rag/documents/a/b.md", params={"collection": "zoo"}).json() == d
        assert c.get(f"/v1/rag/documents/{d['id']}", params={"collection": "zoo"}).json() == d
        assert c.get("/v1/rag/documents/a/b.md/text", params={"collection": "zoo"}).content == ZEBRA
        assert c.get("/v1/rag/documents/none/text", params={"collection": "zoo"}).status_code == 404
        r = c.post("/v1/rag/documents", params={"collection": "zoo", "wait": "false"},
                   files=[("file", ("c.md", ENGINE)), ("file", ("d.md", ZEBRA))], data={"attributes": '{"n":2}'})
        assert [x["attributes"] for x in r.json()["data"]] == [{"n": 2}, {"n": 2}]
        assert {x["status"] for x in r.json()["data"]} <= {"in_progress", "completed"}
        end = time.monotonic() + 10
        while c.get("/v1/rag/documents", params={"collection": "zoo", "status": "in_progress"}).json()["data"]:
            assert time.monotonic() < end
        names = [x["name"] for x in c.get("/v1/rag/documents", params={"collection": "zoo"}).json()["data"]]
        assert sorted(names) == ["a/b.md", "c.md", "d.md"]
        r = c.post("/v1/rag/documents", json={"name": "a/b.md", "text": ENGINE.decode(), "collection": "zoo"})
        assert r.json()["id"] == d["id"] and r.json()["attributes"] == {"n": 1}
        r = c.post("/v1/rag/documents?name=x.bin&collection=zoo", content=b"\x7fELF" + bytes(60))
        assert r.status_code == 400 and "x.bin" in r.json()["error"]["message"]
        r = c.post("/v1/rag/documents", params={"collection": "zoo"},
                   files=[("file", ("bad.bin", b"\x7fELF" + bytes(60))), ("file", ("good.md", ENGINE))])
        assert [x["status"] for x in r.json()["data"]] == ["failed", "completed"]
        assert r.json()["data"][0]["error"]["message"]
        assert c.delete("/v1/rag/documents/c.md", params={"collection": "zoo"}).json()["deleted"]
        assert c.get("/v1/rag/documents/c.md", params={"collection": "zoo"}).status_code == 404
        assert c.get("/v1/rag/documents").json()["data"] == []


def test_native_collections(server):
    with server.client() as c:
        r = c.post("/v1/rag/collections", json={"name": "zoo", "description": "d", "metadata": {"a": "b"},
                                                "settings": {"chunk_tokens": 64, "mmr": 0.3}})
        assert r.status_code == 200 and r.json()["settings"] == {"chunk_tokens": 64, "mmr": 0.3}
        assert c.post("/v1/rag/collections", json={"name": "zoo"}).status_code == 409
        assert c.post("/v1/rag/collections", json={"name": "x", "settings": {"no": 1}}).status_code == 400
        c.post("/v1/rag/documents", json={"name": "a.md", "text": ZEBRA.decode(), "collection": "zoo"})
        assert c.get("/v1/rag/collections/zoo").json()["chunks"] == 2
        r = c.patch("/v1/rag/collections/zoo", json={"settings": {"chunk_tokens": 5, "overlap_tokens": 0, "mmr": None}})
        assert r.json()["settings"] == {"chunk_tokens": 5, "overlap_tokens": 0}
        end = time.monotonic() + 10
        while c.get("/v1/rag/collections/zoo").json()["chunks"] == 2:
            assert time.monotonic() < end
        assert [x["name"] for x in c.get("/v1/rag/collections").json()["data"]] == ["zoo"]
        assert c.delete("/v1/rag/collections/zoo").json()["deleted"]
        assert c.get("/v1/rag/collections/zoo").status_code == 404


def test_two_tenants(start):
    server = start("boss", "member-ann-red", "member-bob-blue")
    ann, bob, boss = (client_of(server, k) for k in ("member-ann-red", "member-bob-blue", "boss"))

    def add(key, name, text, access):
        with server.client(headers={"authorization": f"Bearer {key}"}) as c:
            r = c.post("/v1/rag/documents", json={"name": name, "text": text, "collection": "shared", "access": access})
            assert r.status_code == 200, r.text
            return r.json()["id"]

    red = add("member-ann-red", "plan.md", "zebra plan of the red team", ["team:red"])
    blue = add("member-bob-blue", "plan.md", "zebra plan of the blue team", ["team:blue"])
    add("boss", "open.md", "zebra plan for everybody", None)
    own = add("boss", "ann.md", "zebra plan for ann", ["user:ann"])
    assert red != blue  # nobody overwrites what he cannot see
    store = ann.vector_stores.retrieve("shared")

    def seen(ai):
        return sorted((r.filename, r.content[0].text) for r in ai.vector_stores.search(store.id, query="zebra plan").data)

    assert [t for _, t in seen(ann)] == ["zebra plan for ann", "zebra plan for everybody", "zebra plan of the red team"]
    assert [t for _, t in seen(bob)] == ["zebra plan for everybody", "zebra plan of the blue team"]
    assert len(seen(boss)) == 4
    assert [ai.vector_stores.retrieve(store.id).file_counts.total for ai in (ann, bob, boss)] == [3, 2, 4]
    assert own not in [f.id for f in bob.vector_stores.files.list(store.id)]
    for call in (bob.vector_stores.files.retrieve, bob.vector_stores.files.delete, bob.vector_stores.files.content):
        with pytest.raises(openai.NotFoundError):
            call(red, vector_store_id=store.id)
    with pytest.raises(openai.PermissionDeniedError):
        bob.vector_stores.delete(store.id)
    with server.client(headers={"authorization": "Bearer boss"}) as c:
        r = c.patch(f"/v1/rag/documents/{red}", params={"collection": "shared"}, json={"access": ["user:bob"]})
        assert r.json()["access"] == ["user:bob"]
    assert [t for _, t in seen(bob)] == ["zebra plan for everybody", "zebra plan of the blue team",
                                         "zebra plan of the red team"]
    assert [t for _, t in seen(ann)] == ["zebra plan for ann", "zebra plan for everybody"]


def test_kept_over_a_restart(start, tmp_path):
    server = start()
    ai = client_of(server)
    store = ai.vector_stores.create(name="kept")
    files = [put(ai, b"# N%d\n\nzebra word%d" % (i, i), f"{i}.md").id for i in range(200)]
    batch = ai.vector_stores.file_batches.create(store.id, file_ids=files)
    server.process.kill()
    server.process.wait()
    ai = client_of(start())
    batch = ai.vector_stores.file_batches.poll(batch.id, vector_store_id=store.id, poll_interval_ms=20)
    assert batch.file_counts.completed == 200
    found = ai.vector_stores.search(store.id, query="word137", max_num_results=3)
    assert "137.md" in [r.filename for r in found.data]
