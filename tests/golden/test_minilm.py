"""MiniLM's embeddings against a plain NumPy forward pass over the same safetensors."""
import json
import math
import os
import struct

import numpy as np

from conftest import sluice

WORDS = ("the river flows past old stone mills where bread was once made and children watch small boats drift "
         "under quiet bridges while engineers measure current voltage pressure depth speed of every pump "
         "since 1994 or later, mostly at night").split()


def sentences():
    out = ["Hello world.", "a", "Ünïcödé and 中文 text!", "An e-mail: someone@example.org, call +49 30 1234."]
    state = 12345
    while len(out) < 100:
        words = []
        for _ in range(3 + len(out) % 37):
            state = (state * 1103515245 + 12345) % 2**31
            words.append(WORDS[state % len(WORDS)])
        out.append(" ".join(words))
    return out


def load_safetensors(path):
    with open(path, "rb") as f:
        data = f.read()
    (n,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, t in json.loads(data[8 : 8 + n]).items():
        if name != "__metadata__" and t["dtype"] == "F32":
            a, b = t["data_offsets"]
            tensors[name] = np.frombuffer(data[8 + n + a : 8 + n + b], np.float32).reshape(t["shape"])
    return tensors


def layer_norm(x, t, name, eps):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    return x * t[name + ".weight"] + t[name + ".bias"]


def linear(x, t, name):
    return x @ t[name + ".weight"].T + t[name + ".bias"]


def forward(ids, t, config):
    heads, eps = config["num_attention_heads"], config["layer_norm_eps"]
    erf = np.vectorize(math.erf)
    x = t["embeddings.word_embeddings.weight"][ids] + t["embeddings.position_embeddings.weight"][: len(ids)]
    x = layer_norm(x + t["embeddings.token_type_embeddings.weight"][0], t, "embeddings.LayerNorm", eps)
    for i in range(config["num_hidden_layers"]):
        p = f"encoder.layer.{i}."
        q, k, v = (linear(x, t, p + "attention.self." + n).reshape(len(ids), heads, -1).transpose(1, 0, 2)
                   for n in ("query", "key", "value"))
        s = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
        s = np.exp(s - s.max(-1, keepdims=True))
        a = (s / s.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(len(ids), -1)
        x = layer_norm(x + linear(a, t, p + "attention.output.dense"), t, p + "attention.output.LayerNorm", eps)
        h = linear(x, t, p + "intermediate.dense")
        h = h * 0.5 * (1 + erf(h / math.sqrt(2)))
        x = layer_norm(x + linear(h, t, p + "output.dense"), t, p + "output.LayerNorm", eps)
    v = x.mean(0)
    return v / np.linalg.norm(v)


def test_minilm_agrees_with_numpy():
    tree = json.loads(sluice("pull", "minilm", "--json").stdout)["path"]
    tensors = load_safetensors(os.path.join(tree, "model.safetensors"))
    with open(os.path.join(tree, "config.json")) as f:
        config = json.load(f)
    texts = sentences()
    lines = sluice("embed", "-m", "minilm", stdin="\n".join(texts).encode()).stdout.decode().splitlines()
    assert len(lines) == len(texts) == 100
    worst = 1.0
    for text, line in zip(texts, lines):
        ids = [int(i) for i in sluice("tokenize", "-m", "minilm", stdin=text.encode()).stdout.split()]
        ours = np.array(json.loads(line))
        worst = min(worst, float(ours @ forward(np.array(ids), tensors, config)))
        assert abs(np.linalg.norm(ours) - 1) < 1e-5
    print(f"smallest cosine {worst:.7f}")
    assert worst >= 0.9999
