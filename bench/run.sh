#!/bin/sh
# Sluice against the peer, and against what this machine can do: makes what is missing (the peer, the
# models) and writes raw numbers, the table and the plot into bench/results/. Hours on a small machine;
# BENCH="--quick" or BENCH="--only prefill --rounds 3" does less.
#   bench/run.sh BUILD [options of bench/run.py...]
set -eu
cd "$(dirname "$0")/.."
build=$1
shift
peer=${PEER_BIN:-$(bench/peer.sh)}
# shellcheck disable=SC2086
exec python3 bench/run.py "$build" "$peer" ${BENCH:-} "$@"
