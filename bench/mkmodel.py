#!/usr/bin/env python3
"""Writes a model of a known shape with seeded random weights, for measuring speed.

    bench/mkmodel.py OUT.gguf SHAPE [--type F16|BF16] [--seed N]

Speed depends on shapes and types, not on what a model knows, so no download is needed. Every matrix is
made and written by itself, 16 MB at a time, so that memory stays small.
"""
import argparse
import itertools
import os
import string

import gguf
import numpy as np

# name: arch, layers, dim, heads, kv heads, ffn, vocabulary, rope base, context, pre-tokenizer
SHAPES = {
    "0.5b": ("qwen2", 24, 896, 14, 2, 4864, 151936, 1e6, 32768, "qwen2"),  # Qwen2.5-0.5B
    "1b": ("llama", 16, 2048, 32, 8, 8192, 128256, 5e5, 131072, "llama-bpe"),  # Llama-3.2-1B
    "135m": ("llama", 30, 576, 9, 3, 1536, 49152, 1e5, 8192, "smollm"),  # SmolLM2-135M
}
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = ("{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
CHUNK = 4 << 20  # elements made at once


def byte_tokens():
    """The 256 bytes as GPT-2 spells them: printable ones as themselves, the others from U+0100 on."""
    spelled = set(range(33, 127)) | set(range(161, 173)) | set(range(174, 256))
    others = itertools.count(256)
    return [chr(b) if b in spelled else chr(next(others)) for b in range(256)]


def vocabulary(w, count, pre):
    """Bytes, then made-up words of two and four letters with and without a space before, then three
    special tokens. Every word comes from a merge of two tokens before it. Returns the ids whose
    embedding must not win: halves of characters would hide a step from who reads the stream."""
    tokens, merges = byte_tokens(), []

    def words():
        pairs = [a + b for a in string.ascii_lowercase for b in string.ascii_lowercase]
        yield from ((p[0], p[1]) for p in pairs)
        yield from (("\u0120", p) for p in pairs)
        yield from ((space + a, b) for a in pairs for b in pairs for space in ("\u0120", ""))

    for left, right in itertools.islice(words(), count - len(tokens) - len(SPECIAL)):
        tokens.append(left + right)
        merges.append(f"{left} {right}")
    first_special = len(tokens)
    tokens += SPECIAL
    assert len(tokens) == count == len(set(tokens))
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(pre)
    w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.NORMAL] * first_special + [gguf.TokenType.CONTROL] * len(SPECIAL))
    w.add_token_merges(merges)
    w.add_bos_token_id(first_special)
    w.add_eos_token_id(first_special + 2)
    w.add_add_bos_token(False)
    w.add_chat_template(TEMPLATE)
    return list(range(256)) + list(range(first_special, count))


def tensors(shape):
    """(name, rows, cols, magnitude) of every tensor; one row: a vector, kept in F32. A magnitude of
    None is a norm's ones. Matrices keep the variance of what goes in; those that write to the residual
    stream are smaller by its depth, so that activations stay near one whatever the number of layers."""
    arch, layers, dim, heads, kv_heads, ffn, vocab = shape[:7]
    head = dim // heads
    deep = (2 * layers) ** -0.5
    yield "token_embd.weight", vocab, dim, dim**-0.5
    yield "output_norm.weight", 1, dim, None
    for i in range(layers):
        b = f"blk.{i}."
        yield b + "attn_norm.weight", 1, dim, None
        for t, n in (("q", heads * head), ("k", kv_heads * head), ("v", kv_heads * head)):
            yield b + f"attn_{t}.weight", n, dim, dim**-0.5
            if arch == "qwen2":
                yield b + f"attn_{t}.bias", 1, n, 0.1
        yield b + "attn_output.weight", dim, heads * head, deep * dim**-0.5
        yield b + "ffn_norm.weight", 1, dim, None
        yield b + "ffn_gate.weight", ffn, dim, dim**-0.5
        yield b + "ffn_up.weight", ffn, dim, dim**-0.5
        yield b + "ffn_down.weight", dim, ffn, deep * ffn**-0.5


def random_floats(rng, count, magnitude):
    """Uniform with standard deviation `magnitude`."""
    return (rng.random(count, dtype=np.float32) - np.float32(0.5)) * np.float32(magnitude * 12**0.5)


def matrix(rng, rows, cols, magnitude, kind):
    out = np.empty(rows * cols, dtype=np.uint16)
    for at in range(0, out.size, CHUNK):
        part = random_floats(rng, min(CHUNK, out.size - at), magnitude)
        bits = part.astype(np.float16).view(np.uint16) if kind == "F16" else part.view(np.uint32) >> 16
        out[at : at + part.size] = bits
    return out.reshape(rows, cols)


def parameters(w, shape):
    arch, layers, dim, heads, kv_heads, ffn, vocab, rope, context, pre = shape
    w.add_context_length(context)
    w.add_embedding_length(dim)
    w.add_block_count(layers)
    w.add_feed_forward_length(ffn)
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_rope_dimension_count(dim // heads)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(rope)
    w.add_vocab_size(vocab)
    return vocabulary(w, vocab, pre)


def write(path, name, kind, seed):
    shape = SHAPES[name]
    w = gguf.GGUFWriter(path, shape[0])
    w.add_name(f"bench-{name}")
    w.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if kind == "F16" else gguf.LlamaFileType.MOSTLY_BF16)
    mute = parameters(w, shape)
    rng = np.random.Generator(np.random.Philox(seed))
    for tensor, rows, cols, _ in tensors(shape):
        if rows == 1:
            w.add_tensor_info(tensor, [cols], np.dtype(np.float32), cols * 4)
        else:
            w.add_tensor_info(tensor, [rows, cols], np.dtype(np.float16), rows * cols * 2,
                              raw_dtype=gguf.GGMLQuantizationType[kind])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    for tensor, rows, cols, magnitude in tensors(shape):
        if rows > 1:
            data = matrix(rng, rows, cols, magnitude, kind)
        else:
            data = np.ones(cols, np.float32) if magnitude is None else random_floats(rng, cols, magnitude)
        if tensor == "token_embd.weight":
            data[mute] = 0
        w.write_tensor_data(data)
    w.close()


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("out")
    p.add_argument("shape", choices=SHAPES)
    p.add_argument("--type", choices=["F16", "BF16"], default="F16")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    write(a.out + ".part", a.shape, a.type, a.seed)
    os.replace(a.out + ".part", a.out)


if __name__ == "__main__":
    main()
