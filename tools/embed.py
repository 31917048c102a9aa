#!/usr/bin/env python3
"""Writes a file as a C array: tools/embed.py IN OUT.c NAME gives `const char NAME[]` and `NAME_len`."""
import sys

source, target, name = sys.argv[1:]
data = open(source, "rb").read()
rows = (", ".join(str(b) for b in data[i:i + 24]) for i in range(0, len(data), 24))
with open(target, "w", encoding="ascii") as out:
    out.write("#include <stddef.h>\n")
    out.write(f"extern const unsigned char {name}[];\nextern const size_t {name}_len;\n")
    out.write(f"const unsigned char {name}[] = {{\n" + ",\n".join(rows) + "\n};\n")
    out.write(f"const size_t {name}_len = {len(data)};\n")
