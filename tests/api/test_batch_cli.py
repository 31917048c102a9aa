"""sluice batch: run here, and the commands that ask a server."""
import json
import os
import random
import signal
import subprocess
import time

import pytest

from conftest import sluice
from test_batches import line
from test_files import client_of, wait_until


def write(path, lines):
    path.write_text("".join(json.dumps(x) + "\n" for x in lines))
    return str(path)


def chat(i, **kw):
    return line(f"r-{i}", model="smollm2", max_tokens=4, temperature=0,
                messages=[{"role": "user", "content": f"Count from {i}."}], **kw)


def read(path):
    return [json.loads(x) for x in open(path)]


@pytest.fixture
def here(tmp_path):
    data = os.environ.get("SLUICE_DATA")
    if not data:
        pytest.skip("SLUICE_DATA is not set")

    def run(*args, check=True):
        return sluice("batch", *args, "--data", data, check=check)

    run.data = data
    return run


def test_run(here, tmp_path):
    out = str(tmp_path / "out.jsonl")
    source = write(tmp_path / "in.jsonl", [chat(i) for i in range(6)] + [line("bad", model="smollm2", temperature=9)])
    r = here("run", source, "-o", out, "--json", check=False)
    assert r.returncode == 1  # one failed
    summary = json.loads(r.stdout)
    assert (summary["total"], summary["completed"], summary["failed"]) == (7, 6, 1)
    answers = {x["custom_id"]: x["response"]["body"] for x in read(out)}
    assert set(answers) == {f"r-{i}" for i in range(6)}
    assert all(a["object"] == "chat.completion" and a["usage"]["completion_tokens"] <= 4 for a in answers.values())
    assert [x["custom_id"] for x in read(out + ".errors")] == ["bad"]
    before = open(out).read()
    source = write(tmp_path / "in.jsonl", [chat(i) for i in range(6)])
    again = here("run", source, "-o", out)
    assert b"6 of 6 requests have their answers already" in again.stderr and open(out).read() == before
    assert not os.path.exists(out + ".errors")
    other = write(tmp_path / "other.jsonl", [line("x", model="smollm2")])
    assert b"answers to other requests" in here("run", other, "-o", out, check=False).stderr
    assert open(out).read() == before


def test_run_refuses_wrong_input(here, tmp_path):
    out = str(tmp_path / "out.jsonl")
    (tmp_path / "in.jsonl").write_text(json.dumps(chat(1)) + "\nnot json\n")
    r = here("run", str(tmp_path / "in.jsonl"), "-o", out, check=False)
    assert r.returncode == 1 and b"line 2" in r.stderr
    assert here("run", str(tmp_path / "none.jsonl"), "-o", out, check=False).returncode == 1
    source = write(tmp_path / "in.jsonl", [line("x", model="nobody")])
    assert b"nobody" in here("run", source, "-o", out, check=False).stderr
    assert not os.path.exists(out)
    assert here("run", source, check=False).returncode == 2 and here("frobnicate", check=False).returncode == 2


def test_run_embeddings(here, tmp_path):
    source = write(tmp_path / "in.jsonl", [line(str(i), url="/v1/embeddings", model="minilm", input=f"text {i}") for i in range(5)])
    here("run", source, "-o", str(tmp_path / "out.jsonl"))
    assert all(len(x["response"]["body"]["data"][0]["embedding"]) == 384 for x in read(tmp_path / "out.jsonl"))


def test_run_is_killed_and_goes_on(here, tmp_path):
    out, count = tmp_path / "out.jsonl", 60
    source = write(tmp_path / "in.jsonl", [chat(i) for i in range(count)])
    command = [os.environ["SLUICE_BIN"], "batch", "run", source, "-o", str(out), "--data", here.data]
    kept = 0
    for _ in range(3):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_until(lambda: process.poll() is not None or (out.exists() and out.read_text().count("\n") > kept), 60)
        time.sleep(random.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = out.read_text().count("\n")
    assert 0 < kept < count
    with open(out, "a") as f:
        f.write('{"id":"batch_req_half')
    assert subprocess.run(command, capture_output=True, timeout=300).returncode == 0
    assert sorted(x["custom_id"] for x in read(out)) == sorted(f"r-{i}" for i in range(count))


def test_interrupted(here, tmp_path):
    out = tmp_path / "out.jsonl"
    source = write(tmp_path / "in.jsonl", [chat(i) for i in range(200)])
    process = subprocess.Popen([os.environ["SLUICE_BIN"], "batch", "run", source, "-o", str(out), "--data", here.data],
                               stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    wait_until(lambda: out.exists() and "\n" in out.read_text(), 60)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 1 and b"goes on where it was" in process.stderr.read()
    assert all(x["response"]["status_code"] == 200 for x in read(out))  # none of those that were cut


def test_remote(fake_factory, tmp_path):
    server = fake_factory("secret", env={"FAKE_DATA": str(tmp_path)})
    ai = client_of(server, "secret")
    there = ("--url", server.base + "/", "--api-key", "secret")
    source = write(tmp_path / "my \"in\".jsonl", [line("a"), line("b", "hang")])
    b = json.loads(sluice("batch", "submit", source, "--json", *there).stdout)
    assert ai.files.retrieve(b["input_file_id"]).filename == "my _in_.jsonl"
    assert ai.files.content(b["input_file_id"]).text == open(source).read()
    wait_until(lambda: ai.batches.retrieve(b["id"]).request_counts.completed == 1)
    assert b["id"] in sluice("batch", "list", *there).stdout.decode()
    assert b"1 of 2" in sluice("batch", "show", b["id"], *there).stdout
    sluice("batch", "cancel", b["id"], *there)
    wait_until(lambda: ai.batches.retrieve(b["id"]).status == "cancelled")
    assert [x["status"] for x in json.loads(sluice("batch", "list", "--json", *there).stdout)] == ["cancelled"]
    assert sluice("batch", "show", "batch_none", *there, check=False).returncode == 1
    assert sluice("batch", "list", "--url", server.base, check=False).returncode == 1  # without a key
