#!/bin/sh
# Builds everything for arm64 with Debian's cross compiler and runs the unit tests under emulation.
# Adds the arm64 architecture to this machine's package lists; needs root or sudo.
set -eu
cd "$(dirname "$0")/.."
sudo=$([ "$(id -u)" = 0 ] || echo sudo)
missing=
for p in gcc-aarch64-linux-gnu qemu-user-static $(grep -- '-dev$' tools/packages.txt | grep -v simde | sed 's/$/:arm64/'); do
	dpkg -s "$p" >/dev/null 2>&1 || missing="$missing $p"
done
if [ -n "$missing" ]; then
	dpkg --print-foreign-architectures | grep -qx arm64 || $sudo dpkg --add-architecture arm64
	$sudo apt-get update -qq
	# shellcheck disable=SC2086
	$sudo apt-get install -y -qq --no-install-recommends $missing
fi
[ -d build-arm64 ] || meson setup build-arm64 --cross-file tools/arm64.ini >/dev/null
ninja -C build-arm64
meson test -C build-arm64 --suite unit --print-errorlogs --timeout-multiplier 20
