"""The same prompt gives the same bytes: alone, among eight of mixed lengths, with 1 and 2 threads."""
import concurrent.futures
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))

import mkmodel  # noqa: E402

PROMPTS = [("Tell me about rivers. " * n).strip() for n in (1, 2, 3, 5, 9, 17, 33, 60)]


def ask(server, prompt):
    with server.client(timeout=120) as http:
        body = {"model": "smollm2", "messages": [{"role": "user", "content": prompt}], "max_tokens": 32,
                "temperature": 0.8, "top_p": 0.95, "seed": 7}
        answer = http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"][0]["message"]["content"]


def ask_together(server, prompts):
    results = [None] * len(prompts)

    def one(i):
        results[i] = ask(server, prompts[i])

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(prompts))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return results


def test_batch_and_threads_do_not_change_a_byte(real_factory):
    answers = []
    for threads in ("1", "2"):
        server = real_factory("--model", "smollm2", "--threads", threads)
        answers.append([ask(server, p) for p in PROMPTS])
        answers.append(ask_together(server, PROMPTS))
    assert len(set(answers[0])) > 1
    for other in answers[1:]:
        assert other == answers[0]


def test_a_pool_too_small_for_all_loses_nothing(real_factory):
    """Eight requests whose blocks do not fit together: some are preempted and computed again, all end,
    and none says anything else than it says alone."""
    big = real_factory("--model", "smollm2")
    small = real_factory("--model", "smollm2", env={"SLUICE_KV_MEMORY": "12MiB", "SLUICE_ENGINE_CONTEXT": "512"})
    assert ask_together(small, PROMPTS) == [ask(big, p) for p in PROMPTS]


def test_an_echo_that_is_preempted_is_told_once(tmp_path, real_factory):
    """Prompts echoed with logprobs while the pool holds two of eight: a prompt that is computed again is not
    delivered again."""
    path = str(tmp_path / "m.gguf")
    mkmodel.write(path, "llama-F32")
    # Six rows of logits a step: a prompt takes many steps, while others grow.
    small = {"SLUICE_KV_MEMORY": "512KiB", "SLUICE_ENGINE_CONTEXT": "256", "SLUICE_ENGINE_SEQUENCES": "6"}
    server = real_factory("--model", path, env=small)

    def echo(n):
        body = {"prompt": [1] + [(i * 37 + n) % 284 + 3 for i in range(59 + n * 12)], "max_tokens": 100, "echo": True,
                "logprobs": 1, "temperature": 0, "ignore_eos": True}
        with server.client(timeout=120) as http:
            answer = http.post("/v1/completions", json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()["choices"][0]["logprobs"]

    alone = [echo(n) for n in range(8)]
    assert [len(a["tokens"]) for a in alone] == [160 + n * 12 for n in range(8)]
    for _ in range(5):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert list(pool.map(echo, range(8))) == alone
    with server.client() as http:
        line = [x for x in http.get("/metrics").text.splitlines() if x.startswith("sluice_num_preemptions_total")]
        preempted = float(line[0].split()[-1])
    assert preempted > 0, "the test is to see preemption"
