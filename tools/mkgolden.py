#!/usr/bin/env python3
"""Remakes the golden values of tests/golden with the peer, llama.cpp's server (see bench/peer.sh).

    tools/mkgolden.py PEER_BIN_DIR SMOLLM2.gguf
"""
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import mkmodel

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "tests", "golden")
PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):\n    ",
    "Water boils at a temperature of",
    "1, 2, 3, 4, 5,",
    "The three primary colors are",
    "Dear Sir or Madam,\n\nI am writing to",
    "In 1969, the first human",
]


def post(port, path, body):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=300))


class Peer:
    def __init__(self, bin_dir, model):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.process = subprocess.Popen(
            [os.path.join(bin_dir, "llama-server"), "-m", model, "--port", str(self.port), "-t", "2", "-c", "1024",
             "-np", "1", "-fa", "off"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                if json.load(urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health")).get("status") == "ok":
                    return
            except OSError:
                time.sleep(0.1)
        raise SystemExit(f"the peer does not start on {model}")

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.process.terminate()
        self.process.wait()

    def greedy(self, prompt, count):
        answer = post(self.port, "/completion", {
            "prompt": prompt, "n_predict": count, "temperature": 0, "n_probs": 5, "cache_prompt": False,
            "ignore_eos": True, "return_tokens": True, "samplers": ["temperature"]})
        steps = []
        for p in answer["completion_probabilities"]:
            steps.append({"id": p["id"], "text": p["token"], "logprob": round(p["logprob"], 5),
                          "top": [[t["token"], round(t["logprob"], 5)] for t in p["top_logprobs"]]})
        return steps

    def next_token(self, prompt):
        answer = post(self.port, "/completion", {"prompt": prompt, "n_predict": 1, "temperature": 0, "n_probs": 5,
                                                 "cache_prompt": False, "ignore_eos": True})
        return [[t["id"], round(t["logprob"], 5)] for t in answer["completion_probabilities"][0]["top_logprobs"]]


def main():
    bin_dir, smollm2 = sys.argv[1:3]
    golden = {}
    with Peer(bin_dir, smollm2) as peer:
        for text in PROMPTS:
            ids = post(peer.port, "/tokenize", {"content": text})["tokens"]
            golden[text] = {"ids": ids, "steps": peer.greedy(ids, 64)}
    with open(os.path.join(OUT, "smollm2.json"), "w") as f:
        json.dump(golden, f, separators=(",", ":"))

    # Next-token logprobs after prompts that fill less than a block, several blocks, and a window.
    golden = {}
    prompts = [[1] + [(i * 37 + n) % 285 + 3 for i in range(n)] for n in (4, 17, 40, 100)]
    with tempfile.TemporaryDirectory() as tmp:
        for name in mkmodel.MODELS:
            path = os.path.join(tmp, name + ".gguf")
            mkmodel.write(path, name)
            with Peer(bin_dir, path) as peer:
                golden[name] = [{"ids": p, "top": peer.next_token(p)} for p in prompts]
            os.remove(path)
            print(name)
    with open(os.path.join(OUT, "tiny.json"), "w") as f:
        json.dump(golden, f, separators=(",", ":"))


if __name__ == "__main__":
    main()
