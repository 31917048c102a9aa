"""The same weights in GGUF and in the Hugging Face layout (safetensors, single and sharded) give the
same logprobs: names, RoPE conventions and gemma's norm offsets are told apart by the loader."""
import json
import os
import struct
import sys

import gguf
import numpy as np
import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tools"))

import mkmodel  # noqa: E402

from conftest import sluice  # noqa: E402

NAMES = {"attn_norm.weight": "input_layernorm.weight", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
         "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj",
         "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "attn_q_norm": "self_attn.q_norm",
         "attn_k_norm": "self_attn.k_norm"}


def hf_name(name, arch):
    top = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
           "output.weight": "lm_head.weight"}
    if name in top:
        return top[name]
    _, layer, rest = name.split(".", 2)
    if rest == "ffn_norm.weight":
        rest = "pre_feedforward_layernorm.weight" if arch == "gemma3" else "post_attention_layernorm.weight"
    elif rest == "post_attention_norm.weight":
        rest = "post_attention_layernorm.weight"
    elif rest == "post_ffw_norm.weight":
        rest = "post_feedforward_layernorm.weight"
    else:
        head, tail = rest.rsplit(".", 1)
        rest = NAMES.get(rest) or f"{NAMES[head]}.{tail}"
    return f"model.layers.{layer}.{rest}"


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


def convert(path, arch, out, shards):
    reader = gguf.GGUFReader(path)
    config = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma3": "gemma3_text"}
    head = 128 if arch in ("qwen3", "gemma3") else 64
    info = {"model_type": config[arch], "hidden_size": 256, "num_hidden_layers": 7 if arch == "gemma3" else 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": head, "intermediate_size": 512,
            "vocab_size": 288, "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
            "rope_theta": 1000000.0 if arch == "gemma3" else 10000.0}
    if arch == "gemma3":
        info.update(sliding_window=16, query_pre_attn_scalar=head, rope_local_base_freq=10000.0)
    tensors = {}
    for t in reader.tensors:
        a = np.array(t.data, np.float32).reshape(tuple(reversed(t.shape.tolist())))
        if arch == "llama" and (".attn_q." in t.name or ".attn_k." in t.name):
            heads = 4 if ".attn_q." in t.name else 2
            a = a.reshape(heads, head // 2, 2, 256).swapaxes(1, 2).reshape(heads * head, 256)
        if arch == "gemma3" and t.name.endswith("norm.weight"):
            a = a - 1
        tensors[hf_name(t.name, arch)] = a
    os.makedirs(out)
    with open(os.path.join(out, "config.json"), "w") as f:
        json.dump(info, f)
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"w{i}": i + 3 for i in range(285)}}
    with open(os.path.join(out, "tokenizer.json"), "w") as f:
        json.dump({"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": {
            "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            "post_processor": None, "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "vocab": vocab, "merges": []}}, f)
    if shards == 1:
        write_safetensors(os.path.join(out, "model.safetensors"), tensors)
        return
    weight_map = {}
    for s in range(shards):
        file = f"model-{s + 1:05d}-of-{shards:05d}.safetensors"
        part = {n: a for i, (n, a) in enumerate(tensors.items()) if i % shards == s}
        write_safetensors(os.path.join(out, file), part)
        weight_map.update(dict.fromkeys(part, file))
    with open(os.path.join(out, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {}, "weight_map": weight_map}, f)


def logprobs(server):
    ids = [1] + [(i * 37 + 5) % 285 + 3 for i in range(60)]
    with server.client(timeout=60) as http:
        body = {"prompt": ids, "max_tokens": 0, "echo": True, "temperature": 0, "logprobs": 1}
        answer = http.post("/v1/completions", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"][0]["logprobs"]["token_logprobs"][1:]


@pytest.mark.parametrize("arch,shards", [("llama", 1), ("qwen2", 3), ("qwen3", 1), ("gemma3", 2)])
def test_hugging_face_layout_equals_gguf(tmp_path, real_factory, arch, shards):
    path = str(tmp_path / "m.gguf")
    mkmodel.write(path, f"{arch}-F32")
    convert(path, arch, str(tmp_path / "hf"), shards)
    a = logprobs(real_factory("--model", path))
    b = logprobs(real_factory("--model", str(tmp_path / "hf")))
    assert max(abs(x - y) for x, y in zip(a, b, strict=True)) < 2e-3


def test_gguf_shards_equal_one_file(tmp_path, real_factory):
    mkmodel.write(str(tmp_path / "m.gguf"), "llama-Q4_0")
    mkmodel.write(str(tmp_path / "s.gguf"), "llama-Q4_0", shard_tensors=7)
    shards = sorted(p.name for p in tmp_path.glob("s-*.gguf"))
    assert len(shards) == 3 and shards[0] == "s-00001-of-00003.gguf"
    a = logprobs(real_factory("--model", str(tmp_path / "m.gguf")))
    b = logprobs(real_factory("--model", str(tmp_path / shards[0])))
    assert a == b
    assert b"00001-of-00003" in sluice("show", str(tmp_path / shards[1]), check=False).stderr
    (tmp_path / shards[2]).unlink()
    failed = sluice("show", str(tmp_path / shards[0]), check=False)
    assert failed.returncode == 1 and shards[2].encode() in failed.stderr
