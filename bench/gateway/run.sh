#!/bin/sh
# What the server costs around its models, next to nginx: builds what is needed, runs, writes
# bench/results/. Minutes.
#   bench/gateway/run.sh [options of bench/gateway/run.py...]
set -eu
cd "$(dirname "$0")/../.."
if ! command -v nginx >/dev/null && [ ! -x /usr/sbin/nginx ]; then
    sudo=
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y --no-install-recommends nginx-light
    # The package starts a server of its own, which is not wanted here.
    $sudo service nginx stop >/dev/null 2>&1 || true
fi
if [ ! -f build-bench/build.ninja ]; then
    meson setup build-bench -Dbuildtype=release -Dtest_backend=true >/dev/null
fi
ninja -C build-bench --quiet sluice bench/bench_gateway bench/bench_upstream
exec python3 bench/gateway/run.py build-bench "$@"
