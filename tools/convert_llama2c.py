#!/usr/bin/env python3
"""Turns a llama2.c checkpoint (legacy fp32 .bin) and its tokenizer .bin into a GGUF file.

    tools/convert_llama2c.py MODEL.bin TOKENIZER.bin OUT.gguf
"""
import struct
import sys

import gguf
import numpy as np


def main():
    model, tokenizer, out = sys.argv[1:4]
    with open(model, "rb") as f:
        dim, ff, layers, heads, kv, vocab, context = struct.unpack("<7i", f.read(28))
        data = np.frombuffer(f.read(), np.float32)
    shared, vocab = vocab > 0, abs(vocab)
    head = dim // heads
    at = 0

    def take(*shape):
        nonlocal at
        n = int(np.prod(shape))
        at += n
        return data[at - n : at].reshape(shape)

    embed = take(vocab, dim)
    parts = {n: take(layers, *s) for n, s in (
        ("attn_norm", (dim,)), ("attn_q", (heads * head, dim)), ("attn_k", (kv * head, dim)),
        ("attn_v", (kv * head, dim)), ("attn_output", (dim, heads * head)), ("ffn_norm", (dim,)),
        ("ffn_gate", (ff, dim)), ("ffn_down", (dim, ff)), ("ffn_up", (ff, dim)))}
    norm = take(dim)
    take(context, head // 2), take(context, head // 2)  # tables of cosines and sines

    w = gguf.GGUFWriter(out, "llama")
    w.add_name("llama2.c")
    w.add_context_length(context)
    w.add_embedding_length(dim)
    w.add_block_count(layers)
    w.add_feed_forward_length(ff)
    w.add_head_count(heads)
    w.add_head_count_kv(kv)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(head)
    tokens, scores, kinds = [], [], []
    with open(tokenizer, "rb") as f:
        f.read(4)
        for i in range(vocab):
            score, n = struct.unpack("<fi", f.read(8))
            text = f.read(n)
            byte = len(text) == 6 and text.startswith(b"<0x")
            tokens.append((b"<unk>", b"<s>", b"</s>")[i] if i < 3 else text.replace(b" ", "\u2581".encode()))
            scores.append(score)
            kinds.append(2 if i == 0 else 3 if i < 3 else 6 if byte else 1)
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_scores(scores)
    w.add_token_types(kinds)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_add_bos_token(True)
    w.add_tensor("token_embd.weight", embed)
    w.add_tensor("output_norm.weight", norm)
    if not shared:
        w.add_tensor("output.weight", take(vocab, dim))
    for i in range(layers):
        for name, values in parts.items():
            w.add_tensor(f"blk.{i}.{name}.weight", np.ascontiguousarray(values[i]))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    main()
