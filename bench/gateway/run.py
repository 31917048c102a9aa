#!/usr/bin/env python3
"""What the server adds to a request, next to what nginx's proxy adds, and many streams at once.

    bench/gateway/run.py BUILD [--rounds 30] [--requests 4000] [--streams 2000]

BUILD has -Dtest_backend=true. Writes bench/results/DATE-gateway.csv and .md. bench/README.md says
what is compared.
"""
import argparse
import csv
import datetime
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
import machine  # noqa: E402

RESULTS = os.path.join(HERE, "..", "results")
UPSTREAM, PROXY, OURS, STREAMS = 28101, 28102, 28103, 28104
KEY = "bench-key-0123456789"
BARS = {"p50": 1.5, "p99": 2.0}

NGINX = """
worker_processes auto;
daemon off;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log {dir}/access.log;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  keepalive_requests 1000000;
  upstream up {{ server 127.0.0.1:{up}; keepalive 128; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""
# Everything on: a key, limits to count against, the ledger with prices, logs, metrics.
CONFIG = """
api_keys: [{key}]
models: [{{path: "script:{rate}"}}]
data: {dir}/data
prices: [{{model: "script:*", input: 1.0, output: 2.0}}]
limits:
  models: [{{model: "script:{rate}", rpm: 100000000, tpm: 1000000000, tpd: 1000000000000, concurrency: 10000}}]
"""


def start(command, log):
    return subprocess.Popen(command, stdout=log, stderr=log)


def wait_port(port):
    import socket
    end = time.time() + 20
    while time.time() < end:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


def load(build, **options):
    command = [os.path.join(build, "bench", "bench_gateway"), "--key", KEY]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.stdout:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def rss_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def cpu_s(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def serve(build, directory, rate, port, log):
    path = os.path.join(directory, f"config-{rate}.yaml")
    with open(path, "w") as f:
        f.write(CONFIG.format(key=KEY, rate=rate, dir=directory))
    os.makedirs(os.path.join(directory, "data"), exist_ok=True)
    server = start([os.path.join(build, "sluice"), "serve", "--config", path, "--listen", f"127.0.0.1:{port}"], log)
    wait_port(port)
    return server


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(child) for child in f.read().split()]


def latency(build, directory, log, args, rows):
    """Rounds of direct, through nginx and ours, in turn, each with what others took of the machine."""
    sample = os.path.join(directory, "nginx.conf")
    with open(sample, "w") as f:
        f.write(NGINX.format(dir=directory, up=UPSTREAM, port=PROXY))
    started = [start([os.path.join(build, "bench", "bench_upstream"), str(UPSTREAM), "600"], log),
               start([args.nginx, "-p", directory, "-c", sample], log),
               serve(build, directory, 0, OURS, log)]
    try:
        for port in (UPSTREAM, PROXY, OURS):
            wait_port(port)
        machine.live.update(p.pid for p in started)
        machine.live.update(children(started[1].pid))
        for connections in (1, 64):
            for turn in range(args.rounds):
                for who, port in (("direct", UPSTREAM), ("nginx", PROXY), ("sluice", OURS)):
                    watch = machine.Watch()
                    r = load(build, port=port, connections=connections, requests=args.requests * (4 if connections > 1 else 1),
                             warm=connections * 20)
                    rows.append({"what": "latency", "who": who, "connections": connections, "round": turn,
                                 "foreign": round(watch.foreign(), 3), **r})
                    print(rows[-1], flush=True)
    finally:
        machine.live.clear()
        for p in started:
            p.terminate()
            p.wait()


def streams(build, directory, log, args, rows):
    server = serve(build, directory, 20, STREAMS, log)
    try:
        load(build, port=STREAMS, model="script:20", connections=8, output=5, streams=20)  # warm
        before, cpu = rss_kib(server.pid), cpu_s(server.pid)
        command = [os.path.join(build, "bench", "bench_gateway"), "--key", KEY, "--port", str(STREAMS), "--model", "script:20",
                   "--connections", str(args.streams), "--output", str(args.words), "--streams", "20", "--seconds", "120"]
        client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        peak = before
        while client.poll() is None:
            peak = max(peak, rss_kib(server.pid))
            time.sleep(0.1)
        r = json.loads(client.stdout.read())
        r.update(rss_before_kib=before, rss_peak_kib=peak, kib_per_stream=round((peak - before) / args.streams, 2),
                 server_cpu=round((cpu_s(server.pid) - cpu) / r["wall_s"], 3) if r["wall_s"] else 0)
        rows.append({"what": "streams", "who": "sluice", "round": 0, **r})
        print("streams", r, flush=True)
    finally:
        server.terminate()
        server.wait()


def quiet(rows, who, connections):
    """The third of the rounds in which others took the least of the machine."""
    mine = [r for r in rows if r["what"] == "latency" and r["who"] == who and r["connections"] == connections]
    return sorted(mine, key=lambda r: r["foreign"])[:max(len(mine) // 3, 1)]


def median(rows, who, connections, field):
    return statistics.median(r[field] for r in quiet(rows, who, connections))


def report(rows, args):
    lines = [f"# Gateway, {datetime.date.today()}", "",
             f"{os.cpu_count()} processors; {args.rounds} rounds, each direct, nginx, sluice in turn; medians of the third of "
             "each in which other programs took the least of the machine. Added: through it, less the trivial upstream "
             "directly. Microseconds.", "",
             "| connections | | direct | nginx adds | sluice adds | ratio | bar |", "|---|---|---|---|---|---|---|"]
    taken = max(r["foreign"] for c in (1, 64) for who in ("direct", "nginx", "sluice") for r in quiet(rows, who, c))
    for connections in (1, 64):
        for name in ("p50", "p99"):
            field = f"{name}_us"
            direct = median(rows, "direct", connections, field)
            nginx = median(rows, "nginx", connections, field) - direct
            ours = median(rows, "sluice", connections, field) - direct
            lines.append(f"| {connections} | {name} | {direct:.0f} | {nginx:.0f} | {ours:.0f} | {ours / nginx:.2f} | "
                         f"{BARS[name]} |")
    for r in rows:
        if r["what"] == "streams":
            lines += ["", f"{r['connections']} streams of {args.words} words at 20 a second: {r['missed']} words missed, "
                      f"{r['errors']} errors; words late by p50 {r['p50_us'] / 1e3:.1f} ms, p99 {r['p99_us'] / 1e3:.1f} ms, "
                      f"at most {r['max_us'] / 1e3:.1f} ms; {r['kib_per_stream']} KiB resident for each stream; "
                      f"{r['server_cpu']} processors used by the server."]
    lines += ["", f"Other programs took up to {100 * taken:.0f} % of the machine in what counts above."]
    return "\n".join(lines) + "\n"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("build")
    p.add_argument("--rounds", type=int, default=30)
    p.add_argument("--requests", type=int, default=4000)
    p.add_argument("--streams", type=int, default=2000)
    p.add_argument("--words", type=int, default=200)
    p.add_argument("--nginx", default=shutil.which("nginx") or "/usr/sbin/nginx")
    p.add_argument("--only", choices=["latency", "streams"])
    p.add_argument("--dry", action="store_true", help="print, write nothing")
    args = p.parse_args()
    build, rows = os.path.abspath(args.build), []
    with tempfile.TemporaryDirectory() as directory, open(os.path.join(directory, "log"), "w") as log:
        if args.only != "streams":
            latency(build, directory, log, args, rows)
        if args.only != "latency":
            streams(build, directory, log, args, rows)
    text = report(rows, args) if args.only != "streams" else ""
    print(text)
    if args.dry:
        return
    base = os.path.join(RESULTS, f"{datetime.date.today()}-gateway")
    names = list(dict.fromkeys(k for r in rows for k in r))
    with open(base + ".csv", "w", newline="") as f:
        w = csv.DictWriter(f, names)
        w.writeheader()
        w.writerows(rows)
    with open(base + ".md", "w") as f:
        f.write(text)


if __name__ == "__main__":
    main()
