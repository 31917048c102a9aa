#!/bin/sh
# Sluice and the peer alternately in one go: prefill and decode of SmolLM2 Q4_1. Writes a CSV with every
# round and a table with medians and ratios into bench/results/.
#   bench/run.sh BUILD [PEER_BIN_DIR]
set -eu
cd "$(dirname "$0")/.."
sluice=$1/sluice
peer=${2:-$(bench/peer.sh)}
"$sluice" pull smollm2 >/dev/null
model=$("$sluice" show smollm2 --json | sed -n 's/.*"path": "\(.*\)",*/\1/p')
out=bench/results/$(date +%Y-%m-%d)-smollm2
exec python3 bench/compare.py "$sluice" "$peer" "$model" "$out"
