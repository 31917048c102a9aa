"""The same prompt gives the same bytes: alone, among eight of mixed lengths, with 1 and 2 threads."""
import threading

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
