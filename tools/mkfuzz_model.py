#!/usr/bin/env python3
"""Writes the seed corpora of the model file fuzzers: small valid files and typical breakages."""
import json
import os
import struct
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "fuzz", "corpus")


def text(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def kv(key, kind, payload):
    return text(key) + struct.pack("<I", kind) + payload


def gguf(version=3, alignment=32, tensors=True, extra=b"", extra_count=0):
    kvs = [
        kv("general.architecture", 8, text("llama")),
        kv("general.alignment", 4, struct.pack("<I", alignment)),
        kv("llama.block_count", 4, struct.pack("<I", 1)),
        kv("llama.embedding_length", 4, struct.pack("<I", 32)),
        kv("llama.attention.head_count", 9, struct.pack("<IQII", 4, 2, 2, 2)),
        kv("llama.feed_forward_length", 4, struct.pack("<I", 64)),
        kv("llama.context_length", 10, struct.pack("<Q", 128)),
        kv("llama.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-5)),
        kv("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 2) + text("a") + text("b")),
        kv("flag", 7, b"\x01"),
    ]
    infos = [
        text("token_embd.weight") + struct.pack("<IQQIQ", 2, 32, 2, 8, 0),
        text("norm") + struct.pack("<IQIQ", 1, 32, 0, 96),
    ] if tensors else []
    head = b"GGUF" + struct.pack("<IQQ", version, len(infos), len(kvs) + extra_count)
    body = head + b"".join(kvs) + extra + b"".join(infos)
    if alignment > 0:
        body += b"\0" * (-len(body) % alignment)
    return body + (b"\x01" * 68).ljust(96, b"\0") + b"\x02" * 128 if tensors else body


def safetensors(header, data):
    h = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return struct.pack("<Q", len(h)) + h + data


def main():
    ok = gguf()
    ggufs = {
        "valid": ok,
        "version2": gguf(version=2),
        "version1": gguf(version=1),
        "big_endian": ok[:4] + struct.pack(">I", 3) + ok[8:],
        "vocab_only": gguf(tensors=False),
        "truncated_head": ok[:20],
        "truncated_kv": ok[:100],
        "truncated_data": ok[:-50],
        "huge_counts": b"GGUF" + struct.pack("<IQQ", 3, 2**63, 2**63),
        "huge_string": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**64 - 8) + b"x" * 40,
        "huge_array": gguf(extra=kv("big", 9, struct.pack("<IQ", 10, 2**61)), extra_count=1),
        "nested_array": gguf(extra=kv("nest", 9, struct.pack("<IQ", 9, 1)), extra_count=1),
        "duplicate_key": gguf(extra=kv("flag", 7, b"\0"), extra_count=1),
        "bad_alignment": gguf(alignment=48),
        "bad_type": gguf(extra=kv("odd", 77, b"\0" * 8), extra_count=1),
        "empty": b"",
    }
    entry = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    safes = {
        "valid": safetensors({"__metadata__": {"a": "b"}, "w": entry}, b"\0" * 16),
        "two": safetensors({"w": entry, "v": {"dtype": "BF16", "shape": [4], "data_offsets": [16, 24]}}, b"\0" * 24),
        "overlap": safetensors({"w": entry, "v": {"dtype": "F16", "shape": [4], "data_offsets": [8, 16]}}, b"\0" * 16),
        "outside": safetensors({"w": {**entry, "data_offsets": [0, 1600]}}, b"\0" * 16),
        "negative": safetensors({"w": {**entry, "data_offsets": [-8, 8]}}, b"\0" * 16),
        "overflow": safetensors({"w": {**entry, "shape": [2**40, 2**40]}}, b"\0" * 16),
        "size_differs": safetensors({"w": {**entry, "shape": [3]}}, b"\0" * 16),
        "bad_dtype": safetensors({"w": {**entry, "dtype": "Q9"}}, b"\0" * 16),
        "duplicate": safetensors(b'{"w":1,"w":2}', b""),
        "header_too_long": struct.pack("<Q", 2**40) + b"{}",
        "not_json": safetensors(b"{nope", b""),
        "array": safetensors(b"[1]", b""),
        "short": b"abc",
    }
    for name, files in (("model_gguf", ggufs), ("model_safetensors", safes)):
        os.makedirs(os.path.join(ROOT, name), exist_ok=True)
        for key, data in files.items():
            with open(os.path.join(ROOT, name, key), "wb") as f:
                f.write(data)


if __name__ == "__main__":
    sys.exit(main())
