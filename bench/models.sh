#!/bin/sh
# Makes the models that the benchmarks use, in a cache outside the tree, and prints their paths.
#   bench/models.sh [SHAPE-TYPE...]      e.g. 0.5b-Q4_0; without names, all that bench/run.py needs
set -eu
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice
models=$cache/bench-models
[ $# -gt 0 ] || set -- 0.5b-Q4_0 0.5b-Q4_K_M 0.5b-Q8_0 1b-Q4_0 1b-Q4_K_M 1b-BF16
mkdir -p "$models"

# The packages of the tests, at the versions and sums they pin; the same folder as tools/test.sh's.
venv=$cache/venv-$(sha256sum tests/requirements.txt | cut -c1-16)
prepare_python() {
    [ ! -f "$venv/complete" ] || return 0
    rm -rf "$venv"
    /usr/bin/python3 -m venv "$venv"
    for try in 1 2 3; do
        "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
            -r tests/requirements.txt >&2 && touch "$venv/complete" && return 0
        echo "pip failed on tests/requirements.txt (try $try of 3)" >&2
    done
    return 1
}

# A shape's BF16 file: the source of its other types.
make_source() {
    [ ! -f "$models/$1-BF16.gguf" ] || return 0
    prepare_python
    echo "making $1-BF16" >&2
    "$venv/bin/python" bench/mkmodel.py "$models/$1-BF16.gguf" "$1" --type BF16
    made="$made $1-BF16"
}

made=
wanted=" $* "
for name; do
    shape=${name%%-*}
    type=${name#*-}
    file=$models/$name.gguf
    [ ! -f "$file" ] || continue
    make_source "$shape"
    [ "$type" != BF16 ] || continue
    peer=${peer:-$(bench/peer.sh)}
    echo "making $name" >&2
    "$peer/llama-quantize" "$models/$shape-BF16.gguf" "$file.part" "$type" "$(nproc)" >"$models/quantize.log" 2>&1 ||
        { cat "$models/quantize.log" >&2; exit 1; }
    mv "$file.part" "$file"
done
# Sources made on the way that nobody asked for are only in the way.
for source in $made; do
    case $wanted in *" $source "*) ;; *) rm -f "$models/$source.gguf" ;; esac
done
for name; do echo "$models/$name.gguf"; done
