#!/usr/bin/env python3
"""What the house rules can check by themselves: layers, lengths, doors, shared machine paths.

    tools/tidy.py        prints each finding as file:line: text; exit 1 when there is one
"""
import os
import re
import subprocess
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
FILE_LINES, FUNCTION_LINES, COLUMNS = 800, 70, 100
INCLUDE = re.compile(r'^\s*#\s*include\s+"([a-z0-9_]+)/([^"]+)"')
MALLOC = re.compile(r"(?<![a-z_])(malloc|calloc|realloc|strdup|strndup)\(")


def layers():
    allowed = {}
    with open(os.path.join(ROOT, "tools", "layers.txt")) as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                room, rooms = line.split(":", 1)
                allowed[room.strip()] = set(rooms.split())
    return allowed


def check_include(path, room, line, allowed):
    m = INCLUDE.match(line)
    if not m or m.group(1) == room:
        return None
    other, header = m.groups()
    if other not in allowed.get(room, set()):
        return f"{room} may not include {other} (tools/layers.txt)"
    if other != "base" and header != f"{other}.h":
        return f"of {other}, only {other}/{other}.h may be included"
    return None


def check_file(path, allowed):
    findings = []
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        lines = f.read().split("\n")
    room = path.split("/")[1] if path.startswith("src/") else None
    if len(lines) - 1 > FILE_LINES and "tidy: long:" not in "\n".join(lines[:40]):
        findings.append((len(lines), f"file has {len(lines) - 1} lines, at most {FILE_LINES}"))
    start, excused = 0, False
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS:
            findings.append((number, f"{len(line)} columns, at most {COLUMNS}"))
        if room:
            text = check_include(path, room, line, allowed)
            if text:
                findings.append((number, text))
            if room != "base" and MALLOC.search(line) and "sl_" not in line:
                findings.append((number, "allocate through base/mem.h"))
        excused = excused or "tidy: long:" in line
        if line == "{":
            start = number
        if line == "}" and start:
            if number - start > FUNCTION_LINES and not excused:
                findings.append((start, f"function has {number - start} lines, at most {FUNCTION_LINES}"))
            start, excused = 0, False
    return findings


def main():
    os.chdir(ROOT)
    files = subprocess.run(["git", "ls-files", "src/*.[ch]"], capture_output=True, text=True, check=True)
    allowed, bad = layers(), 0
    for path in files.stdout.split():
        for number, text in check_file(path, allowed):
            print(f"{path}:{number}: {text}")
            bad += 1
    print(f"{bad} findings" if bad else "tidy")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
