"""Tiny seeded encoders in both layouts, and their forward passes in NumPy, written from the papers (BERT,
RoBERTa, RoFormer, SwiGLU): what the tests of embeddings and scores compare with."""
import json
import math
import os
import struct
import sys

import gguf
import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))

from mkmodel import Random  # noqa: E402

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [f"w{i}" for i in range(120)]
CLS, SEP = 2, 3


def ids_of(text):
    """Texts of the tests are words of the vocabulary behind spaces."""
    return [len(SPECIAL) + WORDS.index(w) for w in text.split()]


def single(text):
    return [CLS, *ids_of(text), SEP]


def pair(query, document, twice=False):
    """Ids, and the types that tell the two apart."""
    first = [CLS, *ids_of(query), SEP] + ([SEP] if twice else [])
    second = [*ids_of(document), SEP]
    at = len(first) - twice
    return first + second, [0] * at + [1] * (len(first) + len(second) - at)


class Spec:
    """kind: bert, roberta or nomic. head: None, or which head scores pairs ("full", "bare")."""

    def __init__(self, kind="bert", dim=64, heads=4, layers=2, ff=128, context=48, head=None, act="gelu", seed=1):
        self.kind, self.dim, self.heads, self.layers, self.ff, self.context = kind, dim, heads, layers, ff, context
        self.head, self.act, self.seed = head, act, seed
        self.vocab = len(SPECIAL) + len(WORDS)
        self.types = 1 if kind == "roberta" else 2
        self.skip = 2 if kind == "roberta" else 0
        self.eps, self.rope_base = 1e-6, 1000.0
        self.tensors = self.make()

    def make(self):
        r, t, d = Random(7000 + self.seed), {}, self.dim

        def matrix(name, rows, cols, bias=True):
            t[name + ".weight"] = r.uniform((rows, cols), 0.25)
            if bias:
                t[name + ".bias"] = r.uniform((rows,), 0.2)

        def norm(name):
            t[name + ".weight"] = 1 + r.uniform((d,), 0.3)
            t[name + ".bias"] = r.uniform((d,), 0.2)

        t["embeddings.word_embeddings.weight"] = r.uniform((self.vocab, d), 1.0)
        t["embeddings.token_type_embeddings.weight"] = r.uniform((self.types, d), 0.5)
        if self.kind != "nomic":
            t["embeddings.position_embeddings.weight"] = r.uniform((self.context + self.skip, d), 0.5)
        norm("emb_ln" if self.kind == "nomic" else "embeddings.LayerNorm")
        for i in range(self.layers):
            if self.kind == "nomic":
                p = f"encoder.layers.{i}."
                matrix(p + "attn.Wqkv", 3 * d, d, False)
                matrix(p + "attn.out_proj", d, d, False)
                matrix(p + "mlp.fc11", self.ff, d, False)
                matrix(p + "mlp.fc12", self.ff, d, False)
                matrix(p + "mlp.fc2", d, self.ff, False)
                norm(p + "norm1")
                norm(p + "norm2")
            else:
                p = f"encoder.layer.{i}."
                for n in ("query", "key", "value"):
                    matrix(p + "attention.self." + n, d, d)
                matrix(p + "attention.output.dense", d, d)
                norm(p + "attention.output.LayerNorm")
                matrix(p + "intermediate.dense", self.ff, d)
                matrix(p + "output.dense", d, self.ff)
                norm(p + "output.LayerNorm")
        if self.head and self.kind == "roberta":
            matrix("classifier.dense", d, d)
            matrix("classifier.out_proj", 1, d)
        elif self.head:
            if self.head == "full":
                matrix("pooler.dense", d, d)
            matrix("classifier", 1, d)
        return t

    # -- the forward pass ----------------------------------------------------------------------

    def norm(self, x, name):
        t = self.tensors
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps)
        return x * t[name + ".weight"] + t[name + ".bias"]

    def linear(self, x, name):
        t = self.tensors
        y = x @ t[name + ".weight"].T.astype(np.float64)
        return y + t[name + ".bias"] if name + ".bias" in t else y

    def activate(self, x):
        if self.act == "gelu":
            return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
        return x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    def rotate(self, x):
        """Halves of a head are the two coordinates of the planes that are turned."""
        half = x.shape[-1] // 2
        angle = np.arange(x.shape[1])[:, None] * self.rope_base ** (-np.arange(half) / half)
        c, s = np.cos(angle), np.sin(angle)
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * c - b * s, a * s + b * c], -1)

    def attend(self, q, k, v):
        n = len(q)
        q, k, v = (x.reshape(n, self.heads, -1).transpose(1, 0, 2) for x in (q, k, v))
        if self.kind == "nomic":
            q, k = self.rotate(q), self.rotate(k)
        s = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
        s = np.exp(s - s.max(-1, keepdims=True))
        return (s / s.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(n, -1)

    def states(self, ids, types=None):
        t, d = self.tensors, self.dim
        x = t["embeddings.word_embeddings.weight"][ids].astype(np.float64)
        if self.kind != "nomic":
            x = x + t["embeddings.position_embeddings.weight"][self.skip : self.skip + len(ids)]
        types = np.minimum(types if types is not None else np.zeros(len(ids), int), self.types - 1)
        x = x + t["embeddings.token_type_embeddings.weight"][types]
        x = self.norm(x, "emb_ln" if self.kind == "nomic" else "embeddings.LayerNorm")
        for i in range(self.layers):
            if self.kind == "nomic":
                p = f"encoder.layers.{i}."
                qkv = self.linear(x, p + "attn.Wqkv")
                a = self.attend(qkv[:, :d], qkv[:, d : 2 * d], qkv[:, 2 * d :])
                x = self.norm(x + self.linear(a, p + "attn.out_proj"), p + "norm1")
                gate = self.linear(x, p + "mlp.fc12")
                h = self.linear(x, p + "mlp.fc11") * (gate / (1 + np.exp(-gate)))
                x = self.norm(x + self.linear(h, p + "mlp.fc2"), p + "norm2")
            else:
                p = f"encoder.layer.{i}."
                a = self.attend(*(self.linear(x, p + "attention.self." + n) for n in ("query", "key", "value")))
                x = self.norm(x + self.linear(a, p + "attention.output.dense"), p + "attention.output.LayerNorm")
                h = self.activate(self.linear(x, p + "intermediate.dense"))
                x = self.norm(x + self.linear(h, p + "output.dense"), p + "output.LayerNorm")
        return x

    def vector(self, ids, pool="mean", normalize=True):
        x = self.states(ids)
        v = x.mean(0) if pool == "mean" else x[0] if pool == "cls" else x[-1]
        return v / np.linalg.norm(v) if normalize else v

    def logit(self, query, document):
        x = self.states(*pair(query, document, self.kind == "roberta"))[0]
        if self.kind == "roberta":
            return float(self.linear(np.tanh(self.linear(x, "classifier.dense")), "classifier.out_proj")[0])
        if self.head == "full":
            x = np.tanh(self.linear(x, "pooler.dense"))
        return float(self.linear(x, "classifier")[0])

    # -- files ---------------------------------------------------------------------------------

    def config(self):
        if self.kind == "nomic":
            return {"model_type": "nomic_bert", "n_embd": self.dim, "n_head": self.heads, "n_layer": self.layers,
                    "n_inner": self.ff, "n_positions": self.context, "vocab_size": self.vocab,
                    "layer_norm_epsilon": self.eps, "rotary_emb_base": self.rope_base, "rotary_emb_fraction": 1.0,
                    "activation_function": "swiglu", "type_vocab_size": self.types, "prenorm": False}
        name = "Bert" if self.kind == "bert" else "XLMRoberta"
        return {"model_type": "bert" if self.kind == "bert" else "xlm-roberta", "hidden_size": self.dim,
                "num_attention_heads": self.heads, "num_hidden_layers": self.layers, "intermediate_size": self.ff,
                "max_position_embeddings": self.context + self.skip, "vocab_size": self.vocab,
                "layer_norm_eps": self.eps, "type_vocab_size": self.types, "hidden_act": self.act,
                "pad_token_id": 1 if self.skip else 0,
                "architectures": [name + ("ForSequenceClassification" if self.head else "Model")],
                **({"id2label": {"0": "LABEL_0"}} if self.head else {})}

    def write_hf(self, out, pool=None, modules=None, prompts=None):
        """pool: as 1_Pooling/config.json names it; modules: the types in modules.json."""
        os.makedirs(out)
        prefix = "" if not self.head else "bert." if self.kind == "bert" else "roberta."
        named = {(n if n.startswith("classifier") else prefix + n): a for n, a in self.tensors.items()}
        write_safetensors(os.path.join(out, "model.safetensors"), named)
        write_json(out, "config.json", self.config())
        write_json(out, "tokenizer.json", tokenizer_json())
        if pool:
            os.makedirs(os.path.join(out, "1_Pooling"))
            write_json(out, "1_Pooling/config.json", {"word_embedding_dimension": self.dim, pool: True})
        if modules:
            write_json(out, "modules.json", [{"idx": i, "name": str(i), "path": "", "type": t}
                                             for i, t in enumerate(modules)])
        if prompts:
            write_json(out, "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": None})
        return out

    def write_gguf(self, path, pooling=None, name="tiny"):
        """As llama.cpp's converter writes it. pooling: 1 mean, 2 CLS, 3 last, 4 rank."""
        arch = "nomic-bert" if self.kind == "nomic" else "bert"
        w = gguf.GGUFWriter(path, arch)
        w.add_name(name)
        w.add_context_length(self.context)
        w.add_embedding_length(self.dim)
        w.add_block_count(self.layers)
        w.add_feed_forward_length(self.ff)
        w.add_head_count(self.heads)
        w.add_layer_norm_eps(self.eps)
        w.add_causal_attention(False)
        if self.kind == "nomic":
            w.add_rope_freq_base(self.rope_base)
        if pooling is not None:
            w.add_uint32(f"{arch}.pooling_type", pooling)
        w.add_tokenizer_model("bert")
        w.add_token_list([*SPECIAL, *("\u2581" + x for x in WORDS)])
        w.add_token_types([3] * len(SPECIAL) + [1] * len(WORDS))
        w.add_token_type_count(self.types)
        w.add_unk_token_id(1)
        w.add_uint32("tokenizer.ggml.bos_token_id", CLS)
        w.add_uint32("tokenizer.ggml.cls_token_id", CLS)
        w.add_uint32("tokenizer.ggml.seperator_token_id", SEP)
        for name, a in self.tensors.items():
            short = gguf_name(name)
            if short:
                w.add_tensor(short, np.ascontiguousarray(a[self.skip :] if "position" in name else a, np.float32))
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()
        return path


GGUF_NAMES = {
    "embeddings.word_embeddings": "token_embd", "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types", "embeddings.LayerNorm": "token_embd_norm",
    "emb_ln": "token_embd_norm", "attention.self.query": "attn_q", "attention.self.key": "attn_k",
    "attention.self.value": "attn_v", "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm", "intermediate.dense": "ffn_up", "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm", "attn.Wqkv": "attn_qkv", "attn.out_proj": "attn_output",
    "mlp.fc11": "ffn_up", "mlp.fc12": "ffn_gate", "mlp.fc2": "ffn_down", "norm1": "attn_output_norm",
    "norm2": "layer_output_norm", "classifier.dense": "cls", "pooler.dense": "cls",
    "classifier.out_proj": "cls.output", "classifier": "cls.output"}


def gguf_name(name):
    head, tail = name.rsplit(".", 1)
    if head.startswith("encoder."):
        _, _, layer, rest = head.split(".", 3)
        return f"blk.{layer}.{GGUF_NAMES[rest]}.{tail}"
    return f"{GGUF_NAMES[head]}.{tail}"


def tokenizer_json():
    vocab = {t: i for i, t in enumerate(SPECIAL + WORDS)}
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": vocab[t], "content": t, "single_word": False, "lstrip": False, "rstrip": False,
                              "normalized": False, "special": True} for t in SPECIAL],
            "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                           "strip_accents": None, "lowercase": True},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "TemplateProcessing",
                               "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                                          {"Sequence": {"id": "A", "type_id": 0}},
                                          {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
                               "pair": [],
                               "special_tokens": {t: {"id": t, "ids": [vocab[t]], "tokens": [t]}
                                                  for t in ("[CLS]", "[SEP]")}},
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                      "max_input_chars_per_word": 100, "vocab": vocab}}


def write_json(out, name, value):
    with open(os.path.join(out, name), "w") as f:
        json.dump(value, f)


def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, a in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for a in tensors.values():
            f.write(np.ascontiguousarray(a, np.float32).tobytes())


def texts(count, seed=3, longest=20):
    r = Random(seed).bits(count * (longest + 1))
    out = []
    for i in range(count):
        row = r[i * (longest + 1) : (i + 1) * (longest + 1)]
        out.append(" ".join(WORDS[int(x) % len(WORDS)] for x in row[1 : 2 + int(row[0]) % longest]))
    return out
