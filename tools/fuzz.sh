#!/bin/sh
# Fuzzes every target for a while with clang's libFuzzer: tools/fuzz.sh [SECONDS] [TARGET...].
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -eq 0 ] || shift
command -v clang >/dev/null || { echo "make fuzz needs Debian's clang and libclang-rt-14-dev" >&2; exit 1; }
if [ ! -f build-fuzz/build.ninja ]; then
    CC=clang meson setup build-fuzz -Dbuildtype=debugoptimized -Dfuzz=true \
        -Db_sanitize=address,undefined -Db_lundef=false >/dev/null
fi
targets=${*:-$(cd tests/fuzz && ls fuzz_*.c | sed 's/\.c$//')}
ninja -C build-fuzz --quiet $(printf 'tests/fuzz/%s ' $targets)
for target in $targets; do
    work=build-fuzz/corpus/$target
    mkdir -p "$work"
    echo "== $target, $seconds s"
    "build-fuzz/tests/fuzz/$target" -max_total_time="$seconds" -rss_limit_mb=4096 -timeout=20 \
        -print_final_stats=0 -verbosity=0 "$work" "tests/fuzz/corpus/${target#fuzz_}"
done
