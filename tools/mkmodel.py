#!/usr/bin/env python3
"""Writes tiny models with seeded random weights, for golden tests of architectures and weight types.

    tools/mkmodel.py DIR            all of them
    tools/mkmodel.py DIR NAME...    some

The same seed gives the same bytes everywhere: the generator is spelled out below. Quantized matrices
are random blocks with sane scales, so that no quantizer is needed to have every type.
"""
import os
import sys

import gguf
import numpy as np

TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
ARCHS = ["llama", "llama-rope-freqs", "qwen2", "qwen3", "gemma3"]
MODELS = [f"llama-{t}" for t in TYPES] + [f"{a}-F32" for a in ARCHS[1:]]

# block elements, bytes, (offset of a half, its magnitude) ...
BLOCKS = {
    "Q4_0": (32, 18, [(0, 0.012)]),
    "Q4_1": (32, 20, [(0, 0.012), (2, -0.09)]),
    "Q5_0": (32, 22, [(0, 0.006)]),
    "Q5_1": (32, 24, [(0, 0.006), (2, -0.09)]),
    "Q8_0": (32, 34, [(0, 0.0008)]),
    "Q2_K": (256, 84, [(80, 0.008), (82, 0.012)]),
    "Q3_K": (256, 110, [(108, 0.0015)]),
    "Q4_K": (256, 144, [(0, 0.0004), (2, 0.003)]),
    "Q5_K": (256, 176, [(0, 0.0002), (2, 0.003)]),
    "Q6_K": (256, 210, [(208, 0.0004)]),
}


class Random:
    """SplitMix64 over a counter, so that arrays are made at once and equal on every platform."""

    def __init__(self, seed):
        self.state = np.uint64(seed)

    def bits(self, n):
        with np.errstate(over="ignore"):
            z = self.state + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            self.state = z[-1]
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            return z ^ (z >> np.uint64(31))

    def uniform(self, shape, scale):
        n = int(np.prod(shape))
        u = (self.bits(n) >> np.uint64(11)).astype(np.float64) / 2.0**53
        return ((u * 2 - 1) * scale).astype(np.float32).reshape(shape)

    def bytes(self, n):
        return self.bits((n + 7) // 8).view(np.uint8)[:n]


def matrix(r, rows, cols, kind):
    """A [rows, cols] matrix as (array, gguf type)."""
    q = gguf.GGMLQuantizationType[kind]
    if kind == "F32":
        return r.uniform((rows, cols), 0.1), q
    if kind == "F16":
        return r.uniform((rows, cols), 0.1).astype(np.float16), q
    if kind == "BF16":
        u = r.uniform((rows, cols), 0.1).view(np.uint32) >> 16
        return u.astype(np.uint16).view(np.uint8).reshape(rows, cols * 2), q
    elems, size, halves = BLOCKS[kind]
    n = rows * cols // elems
    raw = r.bytes(n * size).reshape(n, size).copy()
    if kind == "Q6_K":  # small sub-scales
        raw[:, 192:208] = (raw[:, 192:208] % 33 - 16).astype(np.uint8)
    for offset, scale in halves:
        d = (scale * (1 + 0.25 * r.uniform((n,), 1.0))).astype(np.float16)
        raw[:, offset : offset + 2] = d.view(np.uint8).reshape(n, 2)
    return raw.reshape(rows, cols // elems * size), q


def vocabulary(w):
    """Words only: a token that is half a character would hide its step from the peer's answers."""
    tokens = [b"<unk>", b"<s>", b"</s>", b"<0x0A>"] + [f"w{i} ".encode() for i in range(284)]
    kinds = [2, 3, 3, 6] + [1] * 284
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_scores([-float(i) for i in range(len(tokens))])
    w.add_token_types(kinds)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_add_bos_token(True)
    return len(tokens)


def write(path, name, shard_tensors=0, context=512):
    """shard_tensors > 0: several files of so many tensors, named as the format asks."""
    arch, kind = name.rsplit("-", 1)
    freqs = arch == "llama-rope-freqs"
    arch = arch.split("-")[0]
    r = Random(1000 + (ARCHS.index("llama-rope-freqs" if freqs else arch) * 50) + TYPES.index(kind))
    w = gguf.GGUFWriter(path, arch, split_max_tensors=shard_tensors)
    dim, heads, kv, ff, layers = 256, 4, 2, 512, 7 if arch == "gemma3" else 2
    head = 128 if arch in ("qwen3", "gemma3") else dim // heads

    w.add_name(name)
    w.add_context_length(context)
    w.add_embedding_length(dim)
    w.add_block_count(layers)
    w.add_feed_forward_length(ff)
    w.add_head_count(heads)
    w.add_head_count_kv(kv)
    w.add_key_length(head)
    w.add_value_length(head)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(1000000.0 if arch == "gemma3" else 10000.0)
    if arch == "gemma3":
        w.add_sliding_window(16)
    vocab = vocabulary(w)

    def add(tensor, rows, cols):
        data, q = matrix(r, rows, cols, kind)
        w.add_tensor(tensor, data, raw_dtype=q)

    def vector(tensor, n, base=1.0, spread=0.3):
        w.add_tensor(tensor, base + r.uniform((n,), spread))

    add("token_embd.weight", vocab, dim)
    vector("output_norm.weight", dim)
    if arch == "llama":
        add("output.weight", vocab, dim)
    if freqs:
        vector("rope_freqs.weight", head // 2, 4.0, 3.0)
    for i in range(layers):
        b = f"blk.{i}."
        vector(b + "attn_norm.weight", dim)
        vector(b + "ffn_norm.weight", dim)
        add(b + "attn_q.weight", heads * head, dim)
        add(b + "attn_k.weight", kv * head, dim)
        add(b + "attn_v.weight", kv * head, dim)
        add(b + "attn_output.weight", dim, heads * head)
        add(b + "ffn_gate.weight", ff, dim)
        add(b + "ffn_up.weight", ff, dim)
        add(b + "ffn_down.weight", dim, ff)
        if arch == "qwen2":
            for t, n in (("q", heads * head), ("k", kv * head), ("v", kv * head)):
                vector(b + f"attn_{t}.bias", n, 0.0, 0.5)
        if arch in ("qwen3", "gemma3"):
            vector(b + "attn_q_norm.weight", head)
            vector(b + "attn_k_norm.weight", head)
        if arch == "gemma3":
            vector(b + "post_attention_norm.weight", dim)
            vector(b + "post_ffw_norm.weight", dim)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    for name in sys.argv[2:] or MODELS:
        write(os.path.join(out, name + ".gguf"), name)


if __name__ == "__main__":
    main()
