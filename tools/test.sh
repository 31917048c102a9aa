#!/bin/sh
# What `make test` does after the build: C tests, then the real binary with real clients. The last
# line is "N passed, N failed".
set -u
cd "$(dirname "$0")/.."
build=$1
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice
export SLUICE_BIN="$PWD/$build/sluice"
export SLUICE_FAKE_SERVER="$PWD/$build/tests/unit/api/fake_server"
export SLUICE_DATA="$cache/test-data"
passed=0
failed=0

# The clients that users use, pinned with their sums, in a virtual environment outside the tree.
venv="$cache/venv-$(sha256sum tests/requirements.txt | cut -c1-16)"
if [ ! -f "$venv/complete" ]; then
    echo "Preparing Python clients in $venv"
    rm -rf "$venv"
    /usr/bin/python3 -m venv "$venv" || exit 1
    for try in 1 2 3; do
        "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
            -r tests/requirements.txt && touch "$venv/complete" && break
        echo "pip failed on tests/requirements.txt (try $try of 3)" >&2
    done
    [ -f "$venv/complete" ] || exit 1
fi
"$SLUICE_BIN" pull smollm2 minilm >/dev/null || exit 1

log=$(mktemp)
meson test -C "$build" --suite unit --print-errorlogs 2>&1 | tee "$log"
ok=$(sed -n 's/^Ok: *\([0-9]*\).*/\1/p' "$log")
bad=$(sed -n 's/^\(Fail\|Timeout\|Unexpected Pass\): *\([0-9]*\).*/\2/p' "$log" | paste -sd+ | sed 's/^$/0/')
passed=$((passed + ${ok:-0}))
failed=$((failed + ${bad:-1}))
[ -n "$ok" ] || failed=$((failed + 1))

"$venv/bin/python" -m pytest -q -p no:cacheprovider tests/api tests/golden 2>&1 | tee "$log"
line=$(tail -n 1 "$log")
count() { printf '%s\n' "$line" | grep -oE "[0-9]+ $1" | cut -d' ' -f1 | paste -sd+ | sed 's/^$/0/'; }
passed=$((passed + $(count passed)))
failed=$((failed + $(count failed) + $(count 'errors?')))
printf '%s\n' "$line" | grep -qE '[0-9]+ passed' || failed=$((failed + 1))
rm -f "$log"

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
