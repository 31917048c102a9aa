"""Unigram vocabularies (XLM-R's kind) of both layouts against what the tokenizers and sentencepiece packages
made of the same texts; tools/mkunigram_golden.py wrote that down."""
import base64
import json
import os

import gguf
import numpy as np
import pytest

import encoders
from encoders import Spec

HERE = os.path.dirname(os.path.abspath(__file__))


def golden():
    with open(os.path.join(HERE, "unigram.json")) as f:
        return json.load(f)


def model_of(g, tmp_path, layout):
    spec = Spec("roberta", context=600, layers=1, seed=41)
    vocab = g["tokenizer"]["model"]["vocab"]
    spec.vocab = len(vocab)
    spec.tensors = spec.make()
    if layout == "hf":
        path = spec.write_hf(str(tmp_path / "m"))
        encoders.write_json(path, "tokenizer.json", g["tokenizer"])
        return path, spec
    path = str(tmp_path / "m.gguf")
    w = gguf.GGUFWriter(path, "bert")
    w.add_context_length(spec.context)
    w.add_embedding_length(spec.dim)
    w.add_block_count(spec.layers)
    w.add_feed_forward_length(spec.ff)
    w.add_head_count(spec.heads)
    w.add_layer_norm_eps(spec.eps)
    w.add_uint32("bert.pooling_type", 1)
    w.add_tokenizer_model("t5")
    w.add_token_list([p for p, _ in vocab])
    w.add_token_scores([s for _, s in vocab])
    w.add_token_types(g["types"])
    w.add_add_space_prefix(True)
    w.add_remove_extra_whitespaces(True)
    w.add_precompiled_charsmap(base64.b64decode(g["tokenizer"]["normalizer"]["normalizers"][0]["precompiled_charsmap"]))
    w.add_token_type_count(1)
    w.add_bos_token_id(0)
    w.add_eos_token_id(2)
    w.add_unk_token_id(3)
    w.add_uint32("tokenizer.ggml.seperator_token_id", 2)
    w.add_add_bos_token(True)
    w.add_add_eos_token(True)
    for name, a in spec.tensors.items():
        w.add_tensor(encoders.gguf_name(name), np.ascontiguousarray(a[spec.skip :] if "position" in name else a))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return path, spec


@pytest.mark.parametrize("layout,reference", [("hf", "tokenizers"), ("gguf", "sentencepiece")])
def test_ids_agree(tmp_path, real_factory, layout, reference):
    g = golden()
    path, spec = model_of(g, tmp_path, layout)
    server = real_factory("--model", path)
    with server.client(timeout=60) as http:
        name = http.get("/v1/models").json()["data"][0]["id"]
        wrong = []
        for text, want in zip(g["texts"], g[reference], strict=True):
            if "<s>" in text and layout == "gguf":
                continue  # sentencepiece knows no control tokens in texts
            got = http.post("/tokenize", json={"model": name, "prompt": text}).json()["tokens"]
            if got != want:
                wrong.append((text, got, want))
        assert not wrong, (len(wrong), wrong[:5])
        # And a vector by way of these ids.
        text = g["texts"][2]
        ours = np.array(http.post("/v1/embeddings", json={"input": text}).json()["data"][0]["embedding"])
        assert ours @ spec.vector(g[reference][2], "mean") >= 0.9999


def test_pairs_have_two_separators(tmp_path, real_factory):
    g = golden()
    spec = Spec("roberta", head="full", context=600, layers=1, seed=42)
    spec.vocab = len(g["tokenizer"]["model"]["vocab"])
    spec.tensors = spec.make()
    path = spec.write_hf(str(tmp_path / "m"))
    encoders.write_json(path, "tokenizer.json", g["tokenizer"])
    ids = {t: i for t, i in zip(g["texts"], g["tokenizers"])}
    one, two = "The river", "a"
    both = [*ids[one], 2, *ids[two][1:]]
    x = spec.states(both)[0]
    want = float(spec.linear(np.tanh(spec.linear(x, "classifier.dense")), "classifier.out_proj")[0])
    with real_factory("--model", path).client(timeout=60) as http:
        answer = http.post("/score", json={"text_1": one, "text_2": two, "raw_scores": True}).json()
        assert abs(answer["data"][0]["score"] - want) < 2e-3
        assert answer["usage"]["prompt_tokens"] == len(both)
