#!/bin/sh
# Measures embeddings next to what the processor can do, and what they cost a running chat.
# bench/embed.sh CHAT_MODEL ENCODER [BUILD]: JSON on standard output; see bench/README.md.
set -eu
build=${3:-build}
printf '{"probe_before": '; "$build/bench/bench_probe" fp32 int8
printf ',\n"embed": '; "$build/bench/bench_embed" "$2" 500 256 32 4
printf ',\n"probe_after": '; "$build/bench/bench_probe" fp32 int8
printf ',\n"beside": '; "$build/bench/bench_beside" "$1" "$2" 1000 5
echo '}'
