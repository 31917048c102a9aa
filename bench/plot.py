#!/usr/bin/env python3
"""Draws speed and time to the first token against the number of streams: bench/plot.py RESULT.csv"""
import html
import math
import statistics
import sys

STREAMS = (1, 2, 4, 8, 16, 32, 64)
COLOURS = {"sluice": "#0b6e99", "llama.cpp": "#c2571a"}
WIDTH, HEIGHT, LEFT, TOP, GAP = 380, 240, 70, 46, 100
STYLE = "text{font:12px sans-serif;fill:#333}.t{font-size:14px;font-weight:600}.g{stroke:#ddd}.a{stroke:#555}"


def series(values, what, model):
    """{engine: [(streams, median)]}"""
    found = {}
    for engine in COLOURS:
        rows = values.get(engine, {})
        points = [(n, statistics.median(rows[key])) for n in STREAMS if (key := f"streams {n} {what} {model}") in rows]
        if points:
            found[engine] = points
    return found


def ticks(low, high):
    """1, 2 and 5 times powers of ten around [low, high]."""
    marks = [m * 10.0**e for e in range(-3, 9) for m in (1, 2, 5)]
    first = max([m for m in marks if m <= low], default=marks[0])
    last = min([m for m in marks if m >= high], default=marks[-1])
    return [m for m in marks if first <= m <= last]


def panel(x0, y0, title, unit, lines):
    marks = ticks(min(v for p in lines.values() for _, v in p), max(v for p in lines.values() for _, v in p))
    low, span = math.log(marks[0]), math.log(marks[-1] / marks[0]) or 1

    def x(n):
        return x0 + WIDTH * math.log2(n) / math.log2(STREAMS[-1])

    def y(v):
        return y0 + HEIGHT * (1 - (math.log(v) - low) / span)

    out = [f'<text class="t" x="{x0}" y="{y0 - 14}">{html.escape(title)}</text>']
    for m in marks:
        out.append(f'<line class="g" x1="{x0}" x2="{x0 + WIDTH}" y1="{y(m):.1f}" y2="{y(m):.1f}"/>'
                   f'<text x="{x0 - 6}" y="{y(m) + 4:.1f}" text-anchor="end">{m:g}</text>')
    for n in STREAMS:
        out.append(f'<text x="{x(n):.1f}" y="{y0 + HEIGHT + 18}" text-anchor="middle">{n}</text>')
    out.append(f'<line class="a" x1="{x0}" x2="{x0 + WIDTH}" y1="{y0 + HEIGHT}" y2="{y0 + HEIGHT}"/>'
               f'<text x="{x0 + WIDTH / 2}" y="{y0 + HEIGHT + 36}" text-anchor="middle">streams ({unit} on the left)</text>')
    for i, (engine, points) in enumerate(lines.items()):
        colour = COLOURS[engine]
        path = " ".join(f"{x(n):.1f},{y(v):.1f}" for n, v in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x(n):.1f}" cy="{y(v):.1f}" r="3" fill="{colour}"><title>{engine}, {n}: {v:.1f} {unit}</title>'
                "</circle>" for n, v in points]
        out.append(f'<text x="{x0 + WIDTH - 4}" y="{y0 - 14 + 14 * i}" text-anchor="end" style="fill:{colour}">{engine}</text>')
    return out


def write(out, values):
    """Writes OUT.svg; False where nothing was measured against streams."""
    body, row = [], 0
    for model in ("smollm2-Q4_1", "0.5b-Q4_0"):
        speed, first = series(values, "tokens/s", model), series(values, "TTFT", model)
        if not speed:
            continue
        y0 = TOP + row * (HEIGHT + 84)
        body += panel(LEFT, y0, f"Throughput, {model}", "tokens/s", speed)
        body += panel(LEFT + WIDTH + GAP, y0, f"Time to first token (p50), {model}", "ms", first)
        row += 1
    if not row:
        return False
    width, height = LEFT + 2 * WIDTH + GAP + 30, TOP + row * (HEIGHT + 84)
    with open(out + ".svg", "w") as f:
        f.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
                f'<style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(body) + "\n</svg>\n")
    return True


if __name__ == "__main__":
    import report

    write(sys.argv[1].removesuffix(".csv"), report.read_csv(sys.argv[1])[0])
