#!/bin/sh
# Builds the container image with what is there: docker, podman or buildah.
#
#   ENGINE  one of the three            IMAGE  its name (sluice:VERSION)
#   BASE    another base, Debian 12     what else the engine reads, such as BUILDAH_ISOLATION=chroot
set -eu
cd "$(dirname "$0")/.."
version=$(sed -n "s/^ *version: '\(.*\)',$/\1/p" meson.build | head -n 1)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
image=${IMAGE:-sluice:$version}

works() {
    command -v "$1" >/dev/null || return 1
    [ "$1" != docker ] || docker info >/dev/null 2>&1 # a client without its server builds nothing
}
engine=${ENGINE:-}
for e in docker podman buildah; do
    [ -n "$engine" ] || ! works "$e" || engine=$e
done
[ -n "$engine" ] || { echo "make image needs docker (running), podman or buildah: apt-get install buildah" >&2; exit 1; }

set -- -f deploy/docker/Dockerfile -t "$image" --build-arg "VERSION=$version" --build-arg "REVISION=$revision"
[ -z "${BASE:-}" ] || set -- "$@" --build-arg "BASE=$BASE"
echo "Building $image with $engine"
case $engine in
docker) DOCKER_BUILDKIT=1 docker build "$@" . ;;
# The form that knows health checks.
podman) podman build --format docker "$@" . ;;
buildah) buildah bud --format docker "$@" . ;;
*) echo "ENGINE is '$engine'; use docker, podman or buildah" >&2; exit 1 ;;
esac
echo "Built $image"
