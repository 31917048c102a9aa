#!/bin/sh
# Installs the Debian packages of tools/packages.txt that are missing. Quick and silent when none is.
# --without A,B: not these, which a build without tests does not need.
set -eu
cd "$(dirname "$0")/.."
without=
[ "${1-}" != --without ] || without=,$2,
missing=
for package in $(cat tools/packages.txt); do
    case $without in *",$package,"*) continue ;; esac
    case $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) in
    *"ok installed") ;;
    *) missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
if [ -n "$sudo" ] && ! command -v sudo >/dev/null; then
    echo "These Debian packages are missing, and there is no sudo to install them:$missing" >&2
    echo "As root, run: apt-get install$missing" >&2
    exit 1
fi
echo "Installing Debian packages:$missing"
for try in 1 2 3; do
    if $sudo apt-get update -qq &&
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null; then
        # The tests start a Prometheus and an nginx of their own; nobody asked for one that is always there.
        for service in prometheus nginx; do
            case " $missing " in
            *" $service "*) $sudo systemctl disable --now "$service" >/dev/null 2>&1 || true ;;
            esac
        done
        exit 0
    fi
    echo "apt-get failed (try $try of 3)" >&2
    sleep "$try"
done
echo "Could not install:$missing" >&2
exit 1
