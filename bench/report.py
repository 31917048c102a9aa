"""The bars, and the table that says which are met."""
import csv
import datetime
import os
import statistics

import plot

SPEED_MODELS = ["smollm2-Q4_1", "0.5b-Q4_0", "0.5b-Q4_K_M", "0.5b-Q8_0", "1b-Q4_0", "1b-Q4_K_M", "1b-BF16"]
PREFILL_BARS = [5.0, 2.4, 2.9, 2.7, 2.4, 2.8, 1.25]
SERVED = ["smollm2-Q4_1", "0.5b-Q4_0"]


class Row:
    """sense: ">" ratio to the peer at least, "<" at most, "%" share of the bandwidth limit at least,
    "=" our own value at most, "" no bar."""

    def __init__(self, key, title, unit, sense="", bar=0.0):
        self.key, self.title, self.unit, self.sense, self.bar = key, title, unit, sense, bar

    def bar_text(self):
        return {">": f"at least {self.bar:g}x", "<": f"at most {self.bar:g}x", "%": f"{self.bar:.0%} of the limit",
                "=": f"at most {self.bar:g}", "": "-"}[self.sense]

    def met(self, ours, ratio, limit_share):
        value = {"%": limit_share, "=": ours}.get(self.sense, ratio)
        if not self.sense or value is None:
            return "-"
        return "yes" if (value >= self.bar if self.sense in ">%" else value <= self.bar) else "NO"


def speed_rows():
    for model, bar in zip(SPEED_MODELS, PREFILL_BARS):
        yield Row(f"prefill 512 {model}", f"prefill 512, {model}", "tok/s", ">", bar)
    yield Row("prefill 4096 0.5b-Q4_0", "prefill 4096, 0.5b-Q4_0", "tok/s", ">", 2.5)
    for model in SPEED_MODELS:
        sense, bar = (">", 1.8) if model.startswith("smollm2") else ("%", 0.9) if model.startswith("0.5b") else ("", 0)
        yield Row(f"decode 1 {model}", f"decode, 1 stream, {model}", "tok/s", sense, bar)
    for model, bar in zip(SERVED, (5.0, 3.0)):
        yield Row(f"decode 16 {model}", f"decode, 16 streams, {model}", "tok/s", ">", bar)


def server_rows():
    for model, speed, memory in zip(SERVED, (5.0, 3.0), (0.6, 0.75)):
        yield Row(f"server 8 tokens/s {model}", f"server, 8 streams 128 in 128 out, {model}", "tok/s", ">", speed)
        yield Row(f"server 8 TTFT {model}", f"the same: TTFT p50, {model}", "ms", "<", 0.25)
        yield Row(f"server 8 ITL p50 {model}", f"the same: ITL p50, {model}", "ms")
        yield Row(f"TTFT cached {model}", f"TTFT p50, 400 of 408 prompt tokens cached, {model}", "ms", "<", 0.5)
        yield Row(f"TTFT burst {model}", f"TTFT p50, 8 at once share 400 new tokens, {model}", "ms", "<", 0.12)
        yield Row(f"burst prompt tokens computed {model}", f"the same: prompt tokens computed, {model}", "tokens")
        yield Row(f"memory {model}", f"resident after load, 8 x 1024, {model}", "MiB", "<", memory)
        yield Row(f"memory after use {model}", f"resident after the 8 streams, {model}", "MiB")
        yield Row(f"start {model}", f"start to ready, file in the page cache, {model}", "ms", "<", 0.5)
    for model in SERVED:
        long = "4096 tokens arrive at 7 streams"
        yield Row(f"long: p99 during / median before {model}", f"{long}: ITL p99 during / median before, {model}", "x", "=", 2.5)
        yield Row(f"long: p99 / median, whole run {model}", f"{long}: ITL p99 / median, whole run, {model}", "x", "=", 2.5)
        yield Row(f"long: ITL p50 before {model}", f"{long}: ITL median before, {model}", "ms")
        yield Row(f"long: ITL p99 during {model}", f"{long}: ITL p99 during, {model}", "ms")
        yield Row(f"long: its TTFT {model}", f"{long}: TTFT of the long one, {model}", "ms")


def read_csv(path):
    """({engine: {row: [values]}}, the largest share that others had)"""
    values, foreign = {}, 0.0
    with open(path, newline="") as f:
        for r in csv.DictReader(f):
            values.setdefault(r["engine"], {}).setdefault(r["row"], []).append(float(r["value"]))
            foreign = max(foreign, float(r["foreign_cpu_share"]))
    return values, foreign


def number(v):
    return f"{v:.1f}" if abs(v) < 1000 else f"{v:.0f}"


def cell(values):
    if not values:
        return "-"
    return f"{number(statistics.median(values))} ({number(min(values))} - {number(max(values))})"


def limit_share(row, values, sizes, engine):
    """A decode row's part of what reading the weights once per token allows, each round against the
    bandwidth measured beside it. Our packing may be larger than the file, which must not make the
    share better: the smaller of the two counts."""
    model = row.key.removeprefix("decode 1 ")
    bandwidths = values.get(engine, {}).get(f"bandwidth {model}", [])
    if not row.key.startswith("decode 1 ") or not bandwidths:
        return None
    told = [w for e in values.values() for w in e.get(f"weight bytes {model}", [])]
    size = min([sizes[model], *told])
    return statistics.median(v * size / (b * 1e9) for v, b in zip(values[engine][row.key], bandwidths))


def table_line(row, values, sizes):
    ours, peer = (values.get(e, {}).get(row.key, []) for e in ("sluice", "llama.cpp"))
    if not ours and not peer:
        return None
    ratio = statistics.median(ours) / statistics.median(peer) if ours and peer and statistics.median(peer) else None
    shares = [limit_share(row, values, sizes, e) for e in ("sluice", "llama.cpp")]
    met = row.met(statistics.median(ours), ratio, shares[0]) if ours else "-"
    texts = [cell(v) + (f", {s:.0%} of the limit" if s is not None else "") for v, s in zip((ours, peer), shares)]
    return (f"| {row.title} | {row.unit} | {texts[0]} | {texts[1]} | {'-' if ratio is None else f'{ratio:.2f}x'} "
            f"| {row.bar_text()} | {met} |")


def write_table(out, cpu, sizes, args):
    values, foreign = read_csv(out + ".csv")
    probe = {k: v[0] for k, v in values.get("machine", {}).items()}
    lines = [f"# {os.path.basename(out)}", "",
             f"{datetime.date.today()}; {cpu}, {os.cpu_count()} processors; {args.rounds} rounds in turn; medians "
             f"(smallest - largest); others used at most {foreign:.0%} of the machine."
             + (" A quick run: sizes are small and no bar is judged by it." if args.quick else ""), "",
             "| limit of this machine | one thread | all threads |", "|---|---|---|"]
    for key, unit in (("read", "GB/s"), ("int8", "Gop/s"), ("bf16", "Gflop/s"), ("fp32", "Gflop/s")):
        if f"{key} one_thread" in probe:
            lines.append(f"| {key}, {unit} | {probe[key + ' one_thread']:.1f} | {probe[key + ' all_threads']:.1f} |")
    lines += ["", "| row | unit | sluice | llama.cpp | ratio | bar | met |", "|---|---|---|---|---|---|---|"]
    lines += [t for r in [*speed_rows(), *server_rows()] if (t := table_line(r, values, sizes))]
    if plot.write(out, values):
        lines += ["", f"![speed against streams]({os.path.basename(out)}.svg)"]
    with open(out + ".md", "w") as f:
        f.write("\n".join(lines) + "\n")
