"""Batch jobs through the official client: over the scripted server, killed and started again."""
import io
import json
import os
import random
import signal
import time

import openai
import pytest

from conftest import sluice
from test_files import client_of, wait_until


def line(custom_id, text="hi", url="/v1/chat/completions", **body):
    if url == "/v1/chat/completions":
        body = {"model": "fake", "messages": [{"role": "user", "content": text}], **body}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def send(ai, lines, endpoint="/v1/chat/completions", **kw):
    text = "\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines)
    f = ai.files.create(file=("in.jsonl", io.BytesIO(text.encode())), purpose="batch")
    return ai.batches.create(input_file_id=f.id, endpoint=endpoint, completion_window="24h", **kw)


ENDS = {"completed", "failed", "expired", "cancelled"}


def wait(ai, batch, states=ENDS, seconds=30):
    end = time.monotonic() + seconds
    while (batch := ai.batches.retrieve(batch.id)).status not in states:
        assert time.monotonic() < end, batch
        time.sleep(0.01)
    return batch


def read(ai, file_id):
    return [json.loads(x) for x in ai.files.content(file_id).text.splitlines()] if file_id else []


@pytest.fixture
def start(fake_factory, tmp_path):
    def make(*keys):
        return fake_factory(*keys, env={"FAKE_DATA": str(tmp_path)})

    return make


@pytest.fixture
def ai(start):
    return client_of(start())


def test_chat(ai):
    b = send(ai, [line(f"r-{i}") for i in range(20)], metadata={"job": "nightly"})
    assert b.id.startswith("batch_") and b.object == "batch" and b.endpoint == "/v1/chat/completions"
    assert b.completion_window == "24h" and b.metadata == {"job": "nightly"}
    assert b.expires_at == b.created_at + 86400
    b = wait(ai, b)
    assert b.status == "completed" and b.errors is None and b.error_file_id is None
    assert (b.request_counts.total, b.request_counts.completed, b.request_counts.failed) == (20, 20, 0)
    assert b.created_at <= b.in_progress_at <= b.finalizing_at <= b.completed_at
    assert b.failed_at is b.expired_at is b.cancelling_at is b.cancelled_at is None
    assert b.model_extra["model"] == "fake" if b.model_extra and "model" in b.model_extra else b.model == "fake"
    usage = b.usage if isinstance(b.usage, dict) else b.usage.model_dump()
    assert usage == {"input_tokens": 140, "input_tokens_details": {"cached_tokens": 60}, "output_tokens": 100,
                     "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 240}
    out = read(ai, b.output_file_id)
    assert sorted(x["custom_id"] for x in out) == sorted(f"r-{i}" for i in range(20))
    assert len({x["id"] for x in out}) == 20
    for x in out:
        assert x["id"].startswith("batch_req_") and x["error"] is None
        assert x["response"]["status_code"] == 200 and x["response"]["request_id"].startswith("req_")
        assert x["response"]["body"]["object"] == "chat.completion"
        assert x["response"]["body"]["choices"][0]["message"]["content"] == "w0 w1 w2 w3 w4 "
    f = ai.files.retrieve(b.output_file_id)
    assert f.purpose == "batch_output" and f.filename == f"{b.id}_output.jsonl"


def test_completions_and_embeddings(ai):
    b = wait(ai, send(ai, [line("a", url="/v1/completions", model="fake", prompt="x", max_tokens=2)], "/v1/completions"))
    assert read(ai, b.output_file_id)[0]["response"]["body"]["choices"][0]["text"] == "w0 w1 "
    b = wait(ai, send(ai, [line("a", url="/v1/embeddings", model="fake-embed", input=["x", "yy"]),
                           line("b", url="/v1/embeddings", model="fake-embed", input="z")], "/v1/embeddings"))
    assert {x["custom_id"]: len(x["response"]["body"]["data"]) for x in read(ai, b.output_file_id)} == {"a": 2, "b": 1}


def test_responses(ai):
    b = wait(ai, send(ai, [line("a", url="/v1/responses", model="fake", input="hi", instructions="be brief"),
                           line("gone", url="/v1/responses", model="fake", input="hi", previous_response_id="resp_none"),
                           line("streams", url="/v1/responses", model="fake", input="hi", stream=True)], "/v1/responses"))
    body = read(ai, b.output_file_id)[0]["response"]["body"]
    assert body["object"] == "response" and body["output"][0]["content"][0]["text"] == "w0 w1 w2 w3 w4 "
    assert ai.responses.retrieve(body["id"]).id == body["id"]  # kept for who made the batch
    errors = {x["custom_id"]: x["response"]["body"]["error"] for x in read(ai, b.error_file_id)}
    assert errors["gone"]["param"] == "previous_response_id" and errors["streams"]["param"] == "stream"
    more = wait(ai, send(ai, [line("b", url="/v1/responses", model="fake", input="and?", previous_response_id=body["id"])],
                         "/v1/responses"))
    assert read(ai, more.output_file_id)[0]["response"]["body"]["previous_response_id"] == body["id"]


def test_lines_that_fail(ai):
    b = wait(ai, send(ai, [line("good"), line("bad", temperature=9), line("tools", response_format={"type": "json_schema"}),
                           line("streams", stream=True), line("context", "context"), line("breaks", "error")],
                      output_expires_after={"anchor": "created_at", "seconds": 3600}))
    assert b.status == "completed"
    assert (b.request_counts.total, b.request_counts.completed, b.request_counts.failed) == (6, 1, 5)
    assert [x["custom_id"] for x in read(ai, b.output_file_id)] == ["good"]
    errors = {x["custom_id"]: x["response"] for x in read(ai, b.error_file_id)}
    assert {k: (v["status_code"], v["body"]["error"]["param"]) for k, v in errors.items()} == {
        "bad": (400, "temperature"), "tools": (400, "response_format"), "streams": (400, "stream"),
        "context": (400, "messages"), "breaks": (500, None)}
    assert errors["context"]["body"]["error"]["code"] == "context_length_exceeded"
    for file_id in (b.output_file_id, b.error_file_id):
        f = ai.files.retrieve(file_id)
        assert f.expires_at == f.created_at + 3600


def test_input_is_wrong(ai):
    cases = {
        "not json": ("invalid_json_line", 1),
        "[1]": ("invalid_json_line", 1),
        json.dumps({**line("x"), "custom_id": 5}): ("missing_required_parameter", 1),
        json.dumps({**line("x"), "url": "/v1/embeddings"}): ("invalid_url", 1),
        json.dumps({**line("x"), "method": "GET"}): ("invalid_method", 1),
        json.dumps({**line("x"), "body": 5}): ("missing_required_parameter", 1),
        json.dumps(line("x")) + "\n\n" + json.dumps(line("x")): ("duplicate_custom_id", 3),
        json.dumps(line("x")) + "\n" + json.dumps(line("y", model="gpt-4o")): ("mismatched_model", 2),
        json.dumps(line("x", model="nobody")): ("model_not_found", None),
        json.dumps(line("x", model="fake-embed")): ("invalid_request", None),
        " \n": ("empty_file", None),
    }
    for text, (code, number) in cases.items():
        b = wait(ai, send(ai, [text]))
        assert b.status == "failed" and b.failed_at and b.request_counts.total == 0, text
        assert b.errors.object == "list" and (b.errors.data[0].code, b.errors.data[0].line) == (code, number), text
    f = ai.files.create(file=("in.jsonl", io.BytesIO(b"")), purpose="batch")
    b = wait(ai, ai.batches.create(input_file_id=f.id, endpoint="/v1/chat/completions", completion_window="24h"))
    assert b.errors.data[0].code == "empty_file"


def test_creation_is_refused(ai):
    f = ai.files.create(file=("in.jsonl", io.BytesIO(b"{}")), purpose="batch")
    other = ai.files.create(file=("in.jsonl", io.BytesIO(b"{}")), purpose="user_data")
    good = dict(input_file_id=f.id, endpoint="/v1/chat/completions", completion_window="24h")
    for bad, param in ((dict(endpoint="/v1/images/edits"), "endpoint"), (dict(completion_window="1h"), "completion_window"),
                       (dict(input_file_id=other.id), "input_file_id"), (dict(metadata={"a": "x" * 513}), "metadata"),
                       (dict(metadata={str(i): "x" for i in range(17)}), "metadata")):
        with pytest.raises(openai.BadRequestError) as e:
            ai.batches.create(**{**good, **bad})
        assert e.value.param == param
    with pytest.raises(openai.NotFoundError):
        ai.batches.create(**{**good, "input_file_id": "file-none"})
    with pytest.raises(openai.NotFoundError):
        ai.batches.retrieve("batch_none")
    assert ai.batches.list().data == []


def test_list(ai):
    made = [send(ai, [line("x")]).id for _ in range(5)]
    assert [b.id for b in ai.batches.list().data] == made[::-1]
    page = ai.batches.list(limit=2)
    assert [b.id for b in page.data] == made[:-3:-1] and page.has_more
    assert [b.id for b in page] == made[::-1]


def test_cancel(ai):
    b = send(ai, [line(f"fast-{i}") for i in range(5)] + [line(f"hang-{i}", "hang") for i in range(30)])
    wait_until(lambda: ai.batches.retrieve(b.id).request_counts.completed == 5)
    with pytest.raises(openai.ConflictError):
        ai.files.delete(b.input_file_id)
    c = ai.batches.cancel(b.id)
    assert c.status in ("cancelling", "cancelled") and c.cancelling_at
    b = wait(ai, b)
    assert b.status == "cancelled" and b.cancelled_at >= b.cancelling_at and b.finalizing_at is None
    assert (b.request_counts.total, b.request_counts.completed, b.request_counts.failed) == (35, 5, 30)
    assert sorted(x["custom_id"] for x in read(ai, b.output_file_id)) == [f"fast-{i}" for i in range(5)]
    errors = read(ai, b.error_file_id)
    assert len(errors) == 30 and all(x["response"] is None and x["error"]["code"] == "batch_cancelled" for x in errors)
    with pytest.raises(openai.ConflictError) as e:
        ai.batches.cancel(b.id)
    assert "cancelled" in e.value.message
    ai.files.delete(b.input_file_id)


def test_only_the_owner_sees(start):
    server = start("member-alice", "member-bob", "admin-key")
    alice, bob, admin = (client_of(server, k) for k in ("member-alice", "member-bob", "admin-key"))
    b = send(alice, [line("x")])
    for call in (bob.batches.retrieve, bob.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            call(b.id)
    with pytest.raises(openai.NotFoundError):
        bob.batches.create(input_file_id=b.input_file_id, endpoint="/v1/chat/completions", completion_window="24h")
    b = wait(alice, b)
    assert bob.batches.list().data == [] and bob.files.list().data == []
    with pytest.raises(openai.NotFoundError):
        bob.files.content(b.output_file_id)
    assert admin.batches.retrieve(b.id).status == "completed"
    assert len(read(admin, b.output_file_id)) == 1


def test_gives_way_to_live_requests(start):
    server = start()
    ai = client_of(server)
    with ai.chat.completions.create(model="fake", messages=[{"role": "user", "content": "slow"}], stream=True) as live:
        next(live)
        b = wait(ai, send(ai, [line(f"r-{i}") for i in range(3)]), {"in_progress"})
        with server.client() as http:  # the live one, and nothing else
            for _ in range(50):
                assert http.get("/debug").json()["running"] == 1
        assert ai.batches.retrieve(b.id).request_counts.completed == 0
    assert wait(ai, b).status == "completed"


def test_busy_lines_are_tried_again(start):
    server = start()
    ai = client_of(server)
    b = send(ai, [line("x", "busy")])
    with server.client() as http:
        wait_until(lambda: http.get("/debug").json()["busy"] >= 3)
    b = ai.batches.retrieve(b.id)
    assert b.status == "in_progress" and b.request_counts.failed == 0
    ai.batches.cancel(b.id)
    assert wait(ai, b).status == "cancelled"


def test_stop_and_start(start):
    server = start()
    ai = client_of(server)
    b = send(ai, [line(f"r-{i}", "slow", max_tokens=4) for i in range(200)])
    wait_until(lambda: ai.batches.retrieve(b.id).request_counts.completed >= 10)
    assert server.stop() == 0
    ai = client_of(start())
    b = wait(ai, b)
    assert b.status == "completed" and b.request_counts.completed == 200
    assert sorted(x["custom_id"] for x in read(ai, b.output_file_id)) == sorted(f"r-{i}" for i in range(200))


def test_killed_at_random(start, tmp_path):
    """Whatever was counted stays, and in the end every line is there exactly once."""
    count, seen, kills = 400, 0, 0
    server = start()
    ai = client_of(server)
    b = send(ai, [line(f"r-{i}", "slow" if i % 7 else "context", max_tokens=3) for i in range(count)])
    wanted = {f"r-{i}" for i in range(count)}
    while True:
        try:
            target = seen + random.randint(1, 35)  # lines, so that no machine is too quick to be killed
            while seen < target or kills >= 12:
                b = ai.batches.retrieve(b.id)
                done = b.request_counts.completed + b.request_counts.failed
                assert done >= seen
                seen = done
                if b.status in ENDS:
                    break
        except openai.APIConnectionError:
            pass
        if b.status in ENDS:
            break
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        kills += 1
        server = start()
        ai = client_of(server)
    assert kills >= 3
    assert b.status == "completed"
    good, bad = read(ai, b.output_file_id), read(ai, b.error_file_id)
    assert len(good) + len(bad) == count == b.request_counts.completed + b.request_counts.failed
    assert {x["custom_id"] for x in good + bad} == wanted
    assert all(x["response"]["status_code"] == 200 for x in good) and len(bad) == len(range(0, count, 7))
    assert b.usage is None or (b.usage["output_tokens"] if isinstance(b.usage, dict) else b.usage.output_tokens) == 3 * len(good)
    files = {f.id for f in ai.files.list().data}
    assert files == {b.input_file_id, b.output_file_id, b.error_file_id}


def test_real_model_beside_live_requests(real_factory, tmp_path):
    """Lines that rested and were given up again and again say what they say alone, and are charged."""
    source = os.environ.get("SLUICE_DATA")
    if not source:
        pytest.skip("SLUICE_DATA is not set")
    os.symlink(os.path.join(source, "models"), tmp_path / "models")
    server = real_factory("--model", "smollm2", "--data", str(tmp_path), "--api-key", "secret")
    ai = client_of(server, "secret")

    def body(i):
        return dict(model="smollm2", temperature=0, max_tokens=24,
                    messages=[{"role": "system", "content": "You are a storyteller. " * 10},
                              {"role": "user", "content": f"Tell me about the number {i}."}])

    count, live, done = 12, 0, -1
    b = send(ai, [{"custom_id": str(i), "url": "/v1/chat/completions", "body": body(i)} for i in range(count)])
    while (b := ai.batches.retrieve(b.id)).status not in ENDS:
        if b.request_counts.completed == done:
            time.sleep(0.01)
            continue
        done = b.request_counts.completed  # into the midst of the lines that still run
        ai.completions.create(model="smollm2", prompt="Once upon a time", max_tokens=2)
        live += 1
    assert b.status == "completed" and b.request_counts.completed == count and live > 1
    out = {x["custom_id"]: x["response"]["body"] for x in read(ai, b.output_file_id)}
    for i in range(count):
        alone = ai.chat.completions.create(**body(i))
        assert out[str(i)]["choices"][0]["message"]["content"] == alone.choices[0].message.content
    usage = b.usage if isinstance(b.usage, dict) else b.usage.model_dump()
    assert usage["output_tokens"] == sum(x["usage"]["completion_tokens"] for x in out.values())
    assert usage["input_tokens_details"]["cached_tokens"] > 0  # of what the lines have in common
    with server.client(headers={"Authorization": "Bearer secret"}) as c:
        scraped = dict(x.rsplit(" ", 1) for x in c.get("/metrics").text.splitlines() if 'route="batch:' in x)
    labels = '{model_name="smollm2",route="batch:/v1/chat/completions",'
    assert float(scraped[f'sluice_model_requests_total{labels}outcome="ok"}}']) == count
    assert float(scraped[f'sluice_tokens_total{labels}bucket="output"}}']) == usage["output_tokens"]
    assert server.stop() == 0
    rows = json.loads(sluice("usage", "--by", "route,key", "--json", "--data", str(tmp_path)).stdout)
    ledger = {r["route"]: r for r in rows}
    mine = ledger["batch:/v1/chat/completions"]
    assert mine["requests"] == count and mine["output_tokens"] == usage["output_tokens"]
    assert mine["key"] == ledger["/v1/completions"]["key"] != ""


def test_real_keys(real_factory, tmp_path):
    """Teams share, others see nothing, and who loses his key loses what he left running."""
    source = os.environ.get("SLUICE_DATA")
    if not source:
        pytest.skip("SLUICE_DATA is not set")
    os.symlink(os.path.join(source, "models"), tmp_path / "models")

    def key(name, *more):
        return json.loads(sluice("key", "create", name, "--json", "--data", str(tmp_path), *more).stdout)

    sluice("team", "add", "lab", "--data", str(tmp_path))
    made = {n: key(n, *m) for n, m in {"ann": ("--team", "lab"), "ben": ("--team", "lab"), "eve": ()}.items()}
    server = real_factory("--model", "smollm2", "--data", str(tmp_path), "--api-key", "boss")
    ann, ben, eve = (client_of(server, made[n]["key"]) for n in ("ann", "ben", "eve"))
    b = send(ann, [line(str(i), model="smollm2", max_tokens=400, ignore_eos=True,
                        messages=[{"role": "user", "content": "Write a book."}]) for i in range(2000)])
    assert wait(ann, b, {"in_progress"}) and ben.batches.retrieve(b.id).id == b.id
    for call in (eve.batches.retrieve, eve.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            call(b.id)
    assert eve.files.list().data == [] and [f.id for f in ben.files.list().data] == [b.input_file_id]
    server.process.send_signal(signal.SIGKILL)  # the batch is looked at anew when the server starts
    server.process.wait()
    sluice("key", "revoke", "ann", "--data", str(tmp_path))
    server = real_factory("--model", "smollm2", "--data", str(tmp_path), "--api-key", "boss")
    boss = client_of(server, "boss")
    assert wait(boss, b, seconds=60).status == "cancelled"
