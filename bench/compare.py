#!/usr/bin/env python3
"""Runs ours and the peer in turn (A, B, A, B...) and writes OUT.csv and OUT.md."""
import json
import os
import platform
import statistics
import subprocess
import sys

ROUNDS, PROMPT, GEN = 5, 512, 64


def ours(sluice, model, threads):
    run = subprocess.run([sluice, "bench", "-m", model, "-p", str(PROMPT), "-n", str(GEN), "-t", str(threads),
                          "-r", "1", "--json"], capture_output=True, text=True, check=True)
    report = json.loads(run.stdout)
    return {r["test"]: r["median_tokens_per_s"] for r in report["results"]}, report["isa"]


def theirs(peer, model, threads):
    run = subprocess.run([os.path.join(peer, "llama-bench"), "-m", model, "-p", str(PROMPT), "-n", str(GEN), "-t",
                          str(threads), "-fa", "1", "-r", "1", "-o", "json"], capture_output=True, text=True, check=True)
    return {("prefill" if r["n_prompt"] else "decode"): r["avg_ts"] for r in json.loads(run.stdout)}


def cpu_name():
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def main():
    sluice, peer, model, out = sys.argv[1:5]
    threads = os.cpu_count()
    rows = []
    for r in range(ROUNDS):
        a, isa = ours(sluice, model, threads)
        b = theirs(peer, model, threads)
        rows += [(r, t, "sluice", a[t]) for t in a] + [(r, t, "llama.cpp", b[t]) for t in b]
    with open(out + ".csv", "w") as f:
        f.write("round,test,engine,tokens_per_s\n")
        f.writelines(f"{r},{t},{e},{v:.2f}\n" for r, t, e, v in rows)
    with open(out + ".md", "w") as f:
        f.write(f"# SmolLM2-135M Q4_1, {PROMPT} prompt tokens, {GEN} generated, {threads} threads\n\n"
                f"{cpu_name()}, kernels {isa}; llama.cpp b11434 native, flash attention on; {ROUNDS} rounds in turn.\n\n"
                "| test | sluice tok/s (min - max) | llama.cpp tok/s (min - max) | ratio of medians |\n|---|---|---|---|\n")
        for test in ("prefill", "decode"):
            v = {e: [x for r, t, n, x in rows if t == test and n == e] for e in ("sluice", "llama.cpp")}
            m = {e: statistics.median(x) for e, x in v.items()}
            f.write(f"| {test} | " + " | ".join(f"{m[e]:.1f} ({min(v[e]):.1f} - {max(v[e]):.1f})" for e in v) +
                    f" | {m['sluice'] / m['llama.cpp']:.2f} |\n")
    print(open(out + ".md").read())


if __name__ == "__main__":
    main()
