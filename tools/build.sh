#!/bin/sh
# Configures (once) and builds: tools/build.sh DIR [meson options]. TARGETS: not everything but these.
set -eu
cd "$(dirname "$0")/.."
dir=$1
shift
if [ ! -f "$dir/build.ninja" ]; then
    # Debian's meson, whatever else may be on the PATH.
    meson setup "$dir" "$@" >"/tmp/sluice-meson-$$.log" 2>&1 || {
        cat "/tmp/sluice-meson-$$.log" >&2
        rm -f "/tmp/sluice-meson-$$.log"
        exit 1
    }
    rm -f "/tmp/sluice-meson-$$.log"
fi
# shellcheck disable=SC2086 # a list
ninja -C "$dir" --quiet ${TARGETS:-}
