#!/usr/bin/env python3
"""Runs ours and the peer in turn (A, B, A, B...) and judges each row against its bar.

    bench/run.py BUILD PEER_BIN [--rounds 5] [--quick] [--only TEXT]... [--engines sluice,llama.cpp]

Writes bench/results/DATE-NAME.csv (every number), .md (the table) and .svg (speed against streams).
A measurement in which other programs took more than 3 % of the machine is repeated once; the CSV says
what share they had.
"""
import argparse
import csv
import datetime
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile

import machine
import report

HERE = os.path.dirname(os.path.abspath(__file__))
TRIES = 2
ROUNDS_MAX = {"long_prefill": 3, "long_arrival": 2, "streams": 1}  # the slow cases; the others: --rounds
STREAMS = (1, 2, 4, 8, 16, 32, 64)
# KV bytes per token (f16 keys and values of all layers), ids that a prompt may hold
MODELS = {"smollm2-Q4_1": (30 * 3 * 64 * 2 * 2, 49000), "0.5b-Q4_0": (24 * 2 * 64 * 2 * 2, 151600)}


class Engine:
    """What a case asks of an engine. args: the command line; threads: one per processor."""

    def __init__(self, args, models):
        self.args, self.models, self.threads = args, models, os.cpu_count()

    def load(self, port, model, *options):
        """One run of the load generator as its report."""
        args = [os.path.join(self.args.build, "bench/bench_serve"), "--port", port, "--vocab-max", MODELS[model][1],
                "--seconds", 240, *self.route(port), *options]
        done = subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=300)
        if not done.stdout:
            raise machine.Failed(done.stderr[-300:])
        answer = json.loads(done.stdout)
        if answer["errors"] or not answer["complete"]:
            raise machine.Failed(f"load: {answer.get('first_error', 'out of time')}")
        return answer

    def route(self, port):
        return ()


class Sluice(Engine):
    name = "sluice"

    def bench(self, model, prompt, gen, batch=1):
        out = json.loads(machine.run_json(
            [os.path.join(self.args.build, "sluice"), "bench", "-m", self.models[model], "-p", str(prompt), "-n", str(gen),
             "-b", str(batch), "-t", str(self.threads), "-r", "1", "--json"]))
        rates = {r["test"]: r["median_tokens_per_s"] for r in out["results"]}
        return rates, out["weight_bytes"]

    def batched(self, model, streams, prompt, gen):
        return self.bench(model, 0, gen, streams)[0]["decode"]

    def server(self, model, streams, context):
        port, self.folder = machine.free_port(), tempfile.TemporaryDirectory(prefix="sluice-bench-")
        config = os.path.join(self.folder.name, "config.yaml")
        with open(config, "w") as f:
            f.write(f"kv:\n  memory: {MODELS[model][0] * streams * context // 1024}KiB\n"
                    f"engine:\n  context: {context}\n  sequences: {streams}\n")
        return machine.Server(
            [os.path.join(self.args.build, "sluice"), "serve", "--model", self.models[model], "--listen", f"127.0.0.1:{port}",
             "--config", config, "--data", self.folder.name, "--threads", str(self.threads), "--log-level", "warn"],
            port, "/ready")

    def route(self, port):
        """The native route where there is one, else OpenAI's with the model's name."""
        if machine.http(port, "POST", "/completion", {"prompt": [1000], "n_predict": 1})[0] == 200:
            return ()
        return "--model", json.loads(machine.http(port, "GET", "/v1/models")[1])["data"][0]["id"]


class Peer(Engine):
    name = "llama.cpp"

    def tool(self, name, model, *options):
        return [os.path.join(self.args.peer, name), "-m", self.models[model], "-t", str(self.threads), *options]

    def bench(self, model, prompt, gen, batch=1):
        out = json.loads(machine.run_json(self.tool("llama-bench", model, "-fa", "1", "-p", str(prompt), "-n", str(gen),
                                                    "-r", "1", "-o", "json")))
        return {("prefill" if r["n_prompt"] else "decode"): r["avg_ts"] for r in out}, out[0]["model_size"]

    def batched(self, model, streams, prompt, gen):
        out = machine.run_json(self.tool("llama-batched-bench", model, "-fa", "on", "-c", "2048", "-npp", str(prompt),
                                         "-ntg", str(gen), "-npl", str(streams), "--output-format", "jsonl"))
        return [json.loads(line) for line in out.splitlines() if line.startswith("{")][-1]["speed_tg"]

    def server(self, model, streams, context):
        port = machine.free_port()
        return machine.Server(self.tool("llama-server", model, "-c", str(streams * context), "-np", str(streams), "-fa", "on",
                                        "--host", "127.0.0.1", "--port", str(port)), port, "/health")


def probe(args, *names):
    return json.loads(machine.run_json([os.path.join(args.build, "bench/bench_probe"), *names]))


# ---- cases: each measures one engine once and returns {row: value} -------------------------------


def speed(e, run, model):
    """The bandwidth is measured on both sides of each decode: on a shared machine it changes by half
    within minutes, and yesterday's limit would say nothing about today's speed."""
    prompt, gen = (64, 8) if e.args.quick else (512, 64)

    def bandwidth():
        return max(probe(e.args, "read")["read"][t] for t in ("one_thread", "all_threads"))

    def once():
        before = bandwidth()
        return e.bench(model, 0, gen), (before + bandwidth()) / 2

    rates, _ = run.once(lambda: e.bench(model, prompt, 0))
    (decode, size), limit = run.once(once)
    return {f"prefill 512 {model}": rates["prefill"], f"decode 1 {model}": decode["decode"],
            f"weight bytes {model}": size, f"bandwidth {model}": limit}


def long_prefill(e, run, model):
    rates, _ = run.once(lambda: e.bench(model, 256 if e.args.quick else 4096, 0))
    return {f"prefill 4096 {model}": rates["prefill"]}


def batch(e, run, model):
    return {f"decode 16 {model}": run.once(lambda: e.batched(model, 16, 16, 8 if e.args.quick else 64))}


def start(e, run, model):
    """Start and memory on a server of their own, so that a disturbed start can be repeated."""
    machine.warm_page_cache(e.models[model])

    def once():
        with e.server(model, 8, 1024) as s:
            return s.start_ms, s.resident_mib()

    ready, memory = run.once(once)
    return {f"start {model}": ready, f"memory {model}": memory}


def serve(e, run, model):
    out, requests, tokens = {}, 8 if e.args.quick else 16, 16 if e.args.quick else 128
    with e.server(model, 8, 1024) as s:
        e.load(s.port, model, "--connections", 8, "--requests", 8, "--unique", 16, "--output", 4, "--seed", run.seed())
        r = run.once(lambda: e.load(s.port, model, "--connections", 8, "--requests", requests, "--unique", 128, "--output",
                                    tokens, "--seed", run.seed()))
        out[f"server 8 tokens/s {model}"] = r["tokens_per_s"]
        out[f"server 8 TTFT {model}"] = r["ttft_ms"]["p50"]
        out[f"server 8 ITL p50 {model}"] = r["itl_ms"]["p50"]
        out[f"memory after use {model}"] = s.resident_mib()
        r = run.once(lambda: e.load(s.port, model, "--warm", 1, "--requests", 10, "--shared", 400, "--unique", 8, "--output", 4,
                                    "--cache", 1, "--seed", run.seed(), "--prefix-seed", run.seed()))
        out[f"TTFT cached {model}"] = r["ttft_ms"]["p50"]
        r = run.once(lambda: e.load(s.port, model, "--burst", 1, "--requests", 8, "--shared", 400, "--unique", 8, "--output", 8,
                                    "--cache", 1, "--seed", run.seed(), "--prefix-seed", run.seed()))
        out[f"TTFT burst {model}"] = r["ttft_ms"]["p50"]
        out[f"burst prompt tokens computed {model}"] = r["prompt_n"]
    return out


def long_arrival(e, run, model):
    """Strict: gaps while the long prompt is computed, against gaps before it came. The whole run's
    own ratio stands beside it; there a slower median hides what the long prompt costs."""
    prompt, tokens = (1024, 64) if e.args.quick else (4096, 384)
    with e.server(model, 8, 5120) as s:
        e.load(s.port, model, "--connections", 7, "--requests", 7, "--unique", 16, "--output", 4, "--seed", run.seed())
        r = run.once(lambda: e.load(s.port, model, "--connections", 7, "--requests", 7, "--unique", 16, "--output", tokens,
                                    "--long-prompt", prompt, "--long-after", 32, "--seed", run.seed()))
    before, during = r["itl_before_long_ms"], r["itl_during_long_ms"]
    return {f"long: p99 during / median before {model}": during["p99"] / before["p50"],
            f"long: p99 / median, whole run {model}": r["itl_ms"]["p99"] / r["itl_ms"]["p50"],
            f"long: ITL p50 before {model}": before["p50"], f"long: ITL p99 during {model}": during["p99"],
            f"long: its TTFT {model}": r["long_ttft_ms"]["p50"]}


def streams(e, run, model):
    out = {}
    with e.server(model, 64, 128) as s:
        for n in STREAMS[:4] if e.args.quick else STREAMS:
            r = run.once(lambda: e.load(s.port, model, "--connections", n, "--requests", max(n, 4), "--unique", 32, "--output",
                                        16 if e.args.quick else 64, "--seed", run.seed()))
            out[f"streams {n} tokens/s {model}"] = r["tokens_per_s"]
            out[f"streams {n} TTFT {model}"] = r["ttft_ms"]["p50"]
    return out


def cases():
    """(name, function, model) in the order of the table."""
    small, half = "smollm2-Q4_1", "0.5b-Q4_0"
    for m in report.SPEED_MODELS:
        yield f"speed {m}", speed, m
    yield f"prefill 4096 {half}", long_prefill, half
    for f in (batch, start, serve, long_arrival, streams):
        for m in (small, half):
            yield f"{f.__name__} {m}", f, m


# ---- the run --------------------------------------------------------------------------------------


class Run:
    """One engine's turn at a case; remembers how much others disturbed it."""

    count = 0
    tries = TRIES

    def __init__(self):
        self.foreign = 0.0

    @classmethod
    def seed(cls):
        """Never the same twice, so that nothing is in a cache by accident."""
        cls.count += 1
        return cls.count

    def once(self, work):
        """The least disturbed of several tries."""
        tries = []
        for attempt in range(self.tries):
            if self.tries > 1:
                machine.wait_quiet()
            watch = machine.Watch()
            value = work()
            tries.append((watch.foreign(), value))
            if tries[-1][0] <= machine.FOREIGN_MAX:
                break
            print(f"    others used {tries[-1][0]:.0%} of the machine, try {attempt + 1} of {self.tries}", flush=True)
        share, value = min(tries, key=lambda t: t[0])
        self.foreign = max(self.foreign, share)
        return value


def find_models(args):
    sluice = os.path.join(args.build, "sluice")
    machine.run_json([sluice, "pull", "smollm2"], 600)
    shown = json.loads(machine.run_json([sluice, "show", "smollm2", "--json"]))
    made = machine.run_json([os.path.join(HERE, "models.sh")], 1800).split()
    return {"smollm2-Q4_1": shown["path"], **{os.path.basename(p).removesuffix(".gguf"): p for p in made}}


def parse():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("build")
    p.add_argument("peer")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--tries", type=int, default=TRIES, help="measurements of which the least disturbed counts; 1: waits for nobody")
    p.add_argument("--quick", action="store_true", help="small sizes, one round: does everything work?")
    p.add_argument("--only", action="append", help="cases whose name contains this")
    p.add_argument("--engines", default="sluice,llama.cpp")
    p.add_argument("--name", default="bench")
    p.add_argument("--out", default=os.path.join(HERE, "results"))
    args = p.parse_args()
    Run.tries = args.tries
    if args.quick:
        args.rounds = Run.tries = 1
    return args


def measure(case, engine, number, write):
    name, work, model = case
    run = Run()
    print(f"round {number}: {name}, {engine.name}", flush=True)
    try:
        found = work(engine, run, model)
    except (machine.Failed, OSError, ValueError, KeyError, subprocess.SubprocessError) as e:
        print(f"    failed: {e}", file=sys.stderr, flush=True)
        return
    for row, value in found.items():
        write([name, number, engine.name, row, f"{value:.6g}", f"{run.foreign:.3f}"])


def main():
    # Ended from outside, the servers must still be stopped: as an exception this unwinds.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    args = parse()
    os.makedirs(args.out, exist_ok=True)
    out = os.path.join(args.out, f"{datetime.date.today()}-{args.name}")
    models = find_models(args)
    chosen = [c for c in cases() if not args.only or any(o in c[0] for o in args.only)]
    engines = [e(args, models) for e in (Sluice, Peer) if e.name in args.engines.split(",")]
    limits = Run().once(lambda: probe(args))
    with open(out + ".csv", "w", newline="") as f:
        def write(file, row):
            csv.writer(file, lineterminator="\n").writerow(row)
            file.flush()

        write(f, ["case", "round", "engine", "row", "value", "foreign_cpu_share"])
        for key in ("read", "int8", "bf16", "fp32"):
            for threads in ("one_thread", "all_threads") if key in limits else ():
                write(f, ["probe", 0, "machine", f"{key} {threads}", limits[key][threads], 0])
        for case in chosen:
            for number in range(min(args.rounds, ROUNDS_MAX.get(case[1].__name__, args.rounds))):
                for engine in engines:
                    measure(case, engine, number, functools.partial(write, f))
    sizes = {m: os.path.getsize(p) for m, p in models.items()}
    report.write_table(out, machine.cpu_name(), sizes, args)
    print(open(out + ".md").read())


if __name__ == "__main__":
    main()
