#!/usr/bin/env python3
"""What ten times the sustainable load does to those who are let in.

    bench/overload.py BUILD MODEL [--pairs 5] [--seconds 24] [--prompt 64] [--output 64] [--cold]

A pair: 64 clients in a closed loop tell the sustainable rate; then requests come at random times, at 0.9
and at 10 times that rate. Every answer counts, from the first on. With --cold the tenfold load meets a
server that has just started, and the closed loop and 0.9 times are measured before, on another one.
Writes a markdown table, and each pair as it is measured, to standard output.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

import machine

CLIENTS = 64
REST_S = 3  # between two loads


def load(o, port, *args):
    """The generator's report. It ends with 1 where requests were refused, which is what we came to see."""
    command = [f"{o.build}/bench/bench_serve", "--port", port, "--model", "model", "--unique", o.prompt, "--output",
               o.output, "--vocab-min", 1000, "--vocab-max", o.vocab, "--seconds", 300, *args]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=400)
    if done.returncode not in (0, 1) or not done.stdout:
        raise machine.Failed(f"bench_serve ended with {done.returncode}: {done.stderr[-600:]}")
    return json.loads(done.stdout)


def serve(o, port, folder):
    config = os.path.join(folder, f"{port}.yaml")
    with open(config, "w") as f:
        json.dump({"models": [{"path": os.path.abspath(o.model), "name": "model"}],
                   "data": os.path.join(folder, str(port))}, f)
    return machine.Server([f"{o.build}/sluice", "serve", "--config", config, "--listen", f"127.0.0.1:{port}"], port,
                          "/ready")


def open_loop(o, server, rate, seed):
    time.sleep(REST_S)
    r = load(o, server.port, "--rate", f"{rate:.2f}", "--requests", round(rate * o.seconds), "--seed", seed)
    return {"p50": r["total_ms"]["p50"], "p90": r["total_ms"]["p90"], "p99": r["total_ms"]["p99"],
            "ttft": r["ttft_ms"]["p99"], "answered": r["total_ms"]["count"], "refused": r["errors"],
            "speed": r["tokens_per_s"], "mib": server.resident_mib()}


def pair(o, server, seed):
    requests = 3 * CLIENTS
    closed = load(o, server.port, "--connections", CLIENTS, "--requests", requests, "--seed", seed)
    if closed["errors"]:
        raise machine.Failed(f"clients in a closed loop were refused: {closed['first_error']}")
    rate = requests / closed["wall_s"]
    return rate, closed["tokens_per_s"], open_loop(o, server, 0.9 * rate, seed + 1)


def tenfold(o, folder, warm, rate, seed):
    if not o.cold:
        return open_loop(o, warm, 10 * rate, seed)
    with serve(o, machine.free_port(), folder) as server:
        return open_loop(o, server, 10 * rate, seed)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("build")
    p.add_argument("model")
    for name, value in (("pairs", 5), ("seconds", 24), ("prompt", 64), ("output", 64), ("vocab", 32000), ("seed", 1)):
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--cold", action="store_true")
    o = p.parse_args()
    ratios = []
    print("| load | requests/s | answered | refused | tokens/s | total p50 | p90 | p99 ms | TTFT p99 ms | p99 to 0.9x | MiB |\n"
          "|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder, serve(o, machine.free_port(), folder) as server:
        for i in range(o.pairs):
            rate, speed, low = pair(o, server, o.seed + 3 * i)
            high = tenfold(o, folder, server, rate, o.seed + 3 * i + 2)
            ratios.append(high["p99"] / low["p99"])
            print(f"| closed, {CLIENTS} | {rate:.1f} | | | {speed:.0f} | | | | | | |")
            for name, times, r, ratio in (("0.9x", 0.9, low, ""), ("10x", 10, high, f"{ratios[-1]:.2f}")):
                print(f"| {name} | {times * rate:.1f} | {r['answered']} | {r['refused']} | {r['speed']:.0f} | {r['p50']:.0f} "
                      f"| {r['p90']:.0f} | {r['p99']:.0f} | {r['ttft']:.0f} | {ratio} | {r['mib']:.0f} |", flush=True)
    print(f"\np99 at 10x to that at 0.9x: median {statistics.median(ratios):.2f}, worst {max(ratios):.2f}")


if __name__ == "__main__":
    main()
