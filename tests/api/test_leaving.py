"""Many clients that leave at once: every sequence is freed, the KV cache is empty again."""
import socket

from conftest import metric, wait_until

BODY = (b'{"model":"smollm2","prompt":"Tell me everything about rivers.","max_tokens":4000,"ignore_eos":true,'
        b'"stream":true}')


def open_stream(server):
    host, port = server.base.removeprefix("http://").split(":")
    s = socket.create_connection((host, int(port)))
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
              + str(len(BODY)).encode() + b"\r\n\r\n" + BODY)
    return s


def test_64_clients_leave(real_factory):
    server = real_factory("--model", "smollm2")
    streams = [open_stream(server) for _ in range(64)]
    for s in streams:
        assert s.recv(1)  # it was answered: a token came
    wait_until(lambda: metric(server, "sluice_num_requests_running") == 64, 60)
    assert metric(server, "sluice_kv_cache_usage_perc") > 0
    for s in streams:
        s.close()
    wait_until(lambda: metric(server, "sluice_num_requests_running") == 0, 60)
    assert metric(server, "sluice_num_requests_waiting") == 0
    assert metric(server, "sluice_kv_cache_usage_perc") == 0
