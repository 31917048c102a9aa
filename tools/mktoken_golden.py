#!/usr/bin/env python3
"""Writes tests/unit/token/pretok_golden.h: where every pre-tokenizer row cuts a few odd texts,
according to Python's `regex` module. Reads the patterns from src/token/pretok_table.c.

usage: tools/mktoken_golden.py > tests/unit/token/pretok_golden.h"""
import ast
import pathlib
import re

import regex

TEXTS = [
    "Hello, world! It's 2024 and I'LL pay $1,234.56 for   three  things.\n\n  Ok?\r\n\t tab",
    "caf\u00e9 \u00c9COLE na\u00efve \u00bd x\u00b2 \u0663\u0664 don't we've 'tis 12345678 0x1F a_b-c/d//e",
    "\u4f60\u597d\u4e16\u754c123\u3053\u3093\u306b\u3061\u306f \u30ab\u30bf \ud55c\uad6d\uc5b4 \u3002\uff01 x",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u0645\u0631\u062d\u0628\u0627 "
    "e\u0301a\u0308 \U0001f600\U0001f44d\u200d \u00a0\u3000\u2003end   ",
    "   \n \n\n  x\n   y    ",
    "if (a<b&&c>=d) {return [1,2,3];} #hash @user ~/x ^_^ `q` \"s\" \\n HTTPServer iPhone X'S",
]
WHITE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


def rows():
    src = pathlib.Path(__file__).resolve().parent.parent / "src/token/pretok_table.c"
    text = src.read_text().replace("\\\n", " ")
    string = r'"(?:[^"\\]|\\.)*"'
    join = lambda s: "".join(ast.literal_eval(x) for x in re.findall(string, s))
    macros = {m[1]: join(m[2]) for m in re.finditer(r"#define (RULE_\w+)((?:\s*%s)+)" % string, text)}
    body = text[text.index("rules[] = {"):]
    item = r"(?:(?:%s\s*)+|RULE_\w+)" % string
    for m in re.finditer(r"\{ ((?:%s\s*)+),\s*\{ (%s(?:,\s*%s)*) \}," % (string, item, item), body):
        parts = re.findall(item, m[2])
        yield join(m[1]), [macros[p] if p.startswith("RULE") else join(p) for p in parts]


def python_pattern(p):
    return re.sub(r"\\x\{([0-9a-f]+)\}", lambda m: re.escape(chr(int(m[1], 16)))
                  if int(m[1], 16) < 128 else chr(int(m[1], 16)), p)


def cut(pattern, piece):
    out, at = [], 0
    for m in pattern.finditer(piece):
        out += [piece[at:m.start()], m[0]]
        at = m.end()
    return [x for x in out + [piece[at:]] if x]


def main():
    print("/* pretok_golden.h - made by tools/mktoken_golden.py; do not edit. */\n/* clang-format off */")
    print("static const char *const golden_texts[] = {")
    for t in TEXTS:
        print("    \"%s\"," % "".join("\\%03o" % b for b in t.encode()))
    print("};\n\n/* Byte offsets behind each piece, row by row and text by text. */")
    print("static const struct { const char *name; const char *cuts[%d]; } golden_rows[] = {" % len(TEXTS))
    for names, patterns in rows():
        compiled = [regex.compile(python_pattern(p), regex.V0) for p in patterns]
        cells = []
        for t in TEXTS:
            pieces = [t]
            for c in compiled:
                pieces = [q for p in pieces for q in cut(c, p)]
            at, ends = 0, []
            for p in pieces:
                at += len(p.encode())
                ends.append(str(at))
            cells.append('"%s"' % " ".join(ends))
        print("    { \"%s\", {\n        %s } }," % (names.split()[0], ",\n        ".join(cells)))
    print("};\n/* clang-format on */")


main()
