"""Tiny decoders of tools/mkmodel.py made into models that embed or judge, and their forward pass in NumPy."""
import math
import os
import sys

import gguf
import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))

import mkmodel  # noqa: E402

WORDS = ["yes", "no", "Yes", *(f"w{i} " for i in range(281))]  # found in texts as they are spelled
TEMPLATE = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}{% if add_generation_prompt %}w1{% endif %}"


class Decoder:
    def __init__(self, arch, directory):
        self.arch, self.path = arch, str(directory / f"{arch}.gguf")
        mkmodel.write(self.path, f"{arch}-F32")
        reader = gguf.GGUFReader(self.path)
        self.tensors = {t.name: np.array(t.data, np.float32).reshape(tuple(reversed(t.shape.tolist())))
                        for t in reader.tensors}
        self.heads, self.kv, self.eps = 4, 2, 1e-5
        self.head = 128 if arch == "qwen3" else 64

    def rewrite(self, path, pooling=None):
        """The same weights with a vocabulary of words, a template, and a way of pooling."""
        w = gguf.GGUFWriter(path, self.arch)
        w.add_name("tiny")
        w.add_context_length(1024)
        w.add_embedding_length(256)
        w.add_block_count(2)
        w.add_feed_forward_length(512)
        w.add_head_count(self.heads)
        w.add_head_count_kv(self.kv)
        w.add_key_length(self.head)
        w.add_value_length(self.head)
        w.add_layer_norm_rms_eps(self.eps)
        w.add_rope_freq_base(10000.0)
        if pooling is not None:
            w.add_uint32(f"{self.arch}.pooling_type", pooling)
        tokens = ["<unk>", "<s>", "</s>", "<0x0A>", *WORDS]
        w.add_tokenizer_model("llama")
        w.add_token_list(tokens)
        w.add_token_scores([-float(i) for i in range(len(tokens))])
        w.add_token_types([2, 3, 3, 6] + [4] * len(WORDS))
        w.add_bos_token_id(1)
        w.add_eos_token_id(2)
        w.add_add_bos_token(True)
        w.add_chat_template(TEMPLATE)
        for name, a in self.tensors.items():
            w.add_tensor(name, a)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()
        return path

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.tensors[name]

    def rotate(self, x):
        """llama's files turn neighbours, qwen's the halves of a head."""
        n, half = x.shape[1], x.shape[2] // 2
        angle = np.arange(n)[:, None] * 10000.0 ** (-np.arange(half) / half)
        c, s = np.cos(angle), np.sin(angle)
        if self.arch == "llama":
            a, b = x[..., 0::2], x[..., 1::2]
            return np.stack([a * c - b * s, a * s + b * c], -1).reshape(x.shape)
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * c - b * s, a * s + b * c], -1)

    def states(self, ids):
        t, n = self.tensors, len(ids)
        x = t["token_embd.weight"][ids].astype(np.float64)
        mask = np.triu(np.full((n, n), -np.inf), 1)
        for i in range(2):
            p = f"blk.{i}."
            h = self.norm(x, p + "attn_norm.weight")
            q, k, v = (h @ t[f"{p}attn_{m}.weight"].T for m in "qkv")
            q, k, v = (a.reshape(n, -1, self.head).transpose(1, 0, 2) for a in (q, k, v))
            if self.arch == "qwen3":
                q, k = self.norm(q, p + "attn_q_norm.weight"), self.norm(k, p + "attn_k_norm.weight")
            q, k = self.rotate(q), self.rotate(k)
            k, v = (np.repeat(a, self.heads // self.kv, 0) for a in (k, v))
            s = q @ k.transpose(0, 2, 1) / math.sqrt(self.head) + mask
            s = np.exp(s - s.max(-1, keepdims=True))
            a = (s / s.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(n, -1)
            x = x + a @ t[p + "attn_output.weight"].T
            h = self.norm(x, p + "ffn_norm.weight")
            gate = h @ t[p + "ffn_gate.weight"].T
            x = x + (h @ t[p + "ffn_up.weight"].T * (gate / (1 + np.exp(-gate)))) @ t[p + "ffn_down.weight"].T
        return self.norm(x, "output_norm.weight")

    def logits(self, ids):
        t = self.tensors
        return self.states(ids)[-1] @ t.get("output.weight", t["token_embd.weight"]).T
