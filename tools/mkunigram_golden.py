#!/usr/bin/env python3
"""Writes tests/golden/unigram.json: a small unigram vocabulary trained by the sentencepiece package, in the
shape of XLM-R's tokenizer.json and of a GGUF file, and what the tokenizers and sentencepiece packages make of
odd texts with it. Run by hand (pip install tokenizers sentencepiece); the tests read the file.

usage: tools/mkunigram_golden.py [--rule nmt_nfkc] > tests/golden/unigram.json"""
import base64
import json
import os
import random
import sys
import tempfile

import sentencepiece as spm
import tokenizers
from sentencepiece import sentencepiece_model_pb2 as pb

CORPUS = """The river flows past old stone mills where bread was once made and children watch small boats drift.
Engineers measure current, voltage, pressure and depth of every pump since 1994 or later, mostly at night.
Der Fluss fließt an alten Mühlen vorbei, in denen früher Brot gebacken wurde; Kinder sehen den Booten zu.
La rivière coule près des vieux moulins où l'on faisait autrefois du pain; les enfants regardent les bateaux.
河流经过古老的石磨坊，那里曾经做面包，孩子们看着小船漂流。工程师测量电流、电压和深度。
川は古い石の水車小屋のそばを流れ、子供たちは小さな船を見ています。技術者は電流と電圧を測ります。
Река течёт мимо старых мельниц, где когда-то пекли хлеб, и дети смотрят на маленькие лодки.
강은 오래된 방앗간을 지나 흐르고 아이들은 작은 배를 바라봅니다."""
TEXTS = ["", " ", "The river", "  two  spaces  and\ttabs\nand lines ", "Mühlen und Flüsse", "ﬁne ﬂoor ①②③ ㎏ Ａｂｃ１２３",
         "河流经过古老的石磨坊", "川は古い石の水車", "river\u200bflows\u00adpast", "e\u0301te\u0301 e\u0302\u0301 \u0915\u094d\u0937",
         "x\u2581y \u2581z", "emoji 😀👍🏽 👨‍👩‍👧 ok", "ΑΒΓ unknown Ωmega ж", "1994 or later,mostly...at night!?", "ÄÖÜ äöü ß",
         "a", "\u3000wide\u3000space\u3000", "가나다 한국어", "\ufb03\u2460\u2122", "<s> text </s> <mask>", "tab\there\r\nthere",
         "\u0345\u0301", "ＴＨＥ　ＲＩＶＥＲ", "½ ¼ x² \u212b", "ｶﾞｷﾞ ﾊﾟ"]
RULES = ["FB01\t66 69", "FB02\t66 6C", "3000\t20", "9\t20", "A\t20", "D\t20", "200B\t20", "AD\t", "2460\t31", "FF21\t41", "E9\t65 301",
         "65 301\tE9", "2581\t20", "AC00 B098\tB098", "FF76 FF9E\t30AC"]


def random_texts(count):
    r, out = random.Random(11), []
    pool = [c for c in "".join(TEXTS) + CORPUS]
    for _ in range(count):
        out.append("".join(r.choice(pool) for _ in range(r.randrange(1, 40))))
    return out


def main():
    rule = sys.argv[sys.argv.index("--rule") + 1] if "--rule" in sys.argv else None
    with tempfile.TemporaryDirectory() as d:
        with open(os.path.join(d, "c.txt"), "w") as f:
            f.write(CORPUS)
        with open(os.path.join(d, "rules.tsv"), "w") as f:
            f.write("\n".join(RULES) + "\n")
        how = {"normalization_rule_name": rule} if rule else {"normalization_rule_tsv": os.path.join(d, "rules.tsv")}
        spm.SentencePieceTrainer.train(input=os.path.join(d, "c.txt"), model_prefix=os.path.join(d, "m"), vocab_size=400,
                                       model_type="unigram", hard_vocab_limit=False, minloglevel=2, unk_id=3, bos_id=0,
                                       eos_id=2, pad_id=1, character_coverage=0.98, **how)
        model = pb.ModelProto()
        with open(os.path.join(d, "m.model"), "rb") as f:
            model.ParseFromString(f.read())
        own = spm.SentencePieceProcessor(model_file=os.path.join(d, "m.model"))
    pieces = [(p.piece, p.score, p.type) for p in model.pieces]
    pieces.append(("<mask>", 0.0, 3))
    charsmap = base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    ids = {p: i for i, (p, _, _) in enumerate(pieces)}
    config = {"version": "1.0", "truncation": None, "padding": None,
              "added_tokens": [{"id": ids[t], "content": t, "single_word": False, "lstrip": t == "<mask>", "rstrip": False,
                                "normalized": False, "special": True} for t in special],
              "normalizer": {"type": "Sequence", "normalizers": [{"type": "Precompiled", "precompiled_charsmap": charsmap},
                                                                 {"type": "Replace", "pattern": {"Regex": " {2,}"},
                                                                  "content": " "}]},
              "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                  {"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always",
                                                "split": True}]},
              "post_processor": {"type": "TemplateProcessing", "single": [
                  {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                  {"SpecialToken": {"id": "</s>", "type_id": 0}}],
                  "pair": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                           {"SpecialToken": {"id": "</s>", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}},
                           {"Sequence": {"id": "B", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
                  "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in ("<s>", "</s>")}},
              "decoder": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
              "model": {"type": "Unigram", "unk_id": 3, "vocab": [[p, s] for p, s, _ in pieces], "byte_fallback": False}}
    theirs = tokenizers.Tokenizer.from_str(json.dumps(config))
    texts = TEXTS + random_texts(120)
    json.dump({"tokenizer": config, "types": [t for _, _, t in pieces], "texts": texts,
               "tokenizers": [theirs.encode(t).ids for t in texts],
               "sentencepiece": [[0, *own.encode(t), 2] for t in texts]}, sys.stdout, ensure_ascii=True)
    print()


if __name__ == "__main__":
    main()
