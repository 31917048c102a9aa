#!/bin/sh
# Looks at a built image and starts it: tools/image-check.sh [IMAGE] with docker, podman or buildah.
#
# CA: a file of certificates to trust while it fetches models, where a proxy has its own.
#
# Its size, its user, that no build tools are in it; then the server in it on a read-only root (buildah
# has no way to ask for that) with models it fetches itself, its health check, an embedding, a backup.
set -eu
cd "$(dirname "$0")/.."
version=$(sed -n "s/^ *version: '\(.*\)',$/\1/p" meson.build | head -n 1)
image=${1:-sluice:$version}
engine=${ENGINE:-}
for e in docker podman buildah; do
    [ -n "$engine" ] || ! command -v "$e" >/dev/null || { [ "$e" = docker ] && ! docker info >/dev/null 2>&1; } || engine=$e
done
port=${PORT:-18080}
url=http://127.0.0.1:$port
megabytes_max=150
work=$(mktemp -d)
data=$work/data
mkdir "$data"
chown 10001:10001 "$data"
container=
server=
say() { printf '%-24s %s\n' "$1" "$2"; }
die() { echo "image-check: $*" >&2; exit 1; }
clean() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    [ "$engine" = buildah ] || [ -z "$container" ] || "$engine" rm -f "$container" >/dev/null 2>&1 || true
    [ "$engine" != buildah ] || [ -z "$container" ] || buildah rm "$container" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap clean EXIT

# ---- what is in it ----------------------------------------------------------------------------------
if [ "$engine" = buildah ]; then
    container=$(buildah from --pull-never "$image")
    root=$(buildah mount "$container")
    user=$(buildah inspect --format '{{.OCIv1.Config.User}}' "$container")
else
    container=$("$engine" create "$image")
    root=$work/root
    mkdir "$root"
    "$engine" export "$container" | tar -C "$root" -xf - --exclude 'dev/*' --no-same-owner
    user=$("$engine" inspect --format '{{.Config.User}}' "$container")
fi
bytes=$(find "$root" -xdev -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%d", sum }')
say "size" "$((bytes / 1000000)) MB of files"
[ "$bytes" -lt $((megabytes_max * 1000000)) ] || die "larger than $megabytes_max MB"
say "user" "$user"
[ "$user" = 10001:10001 ] || die "does not run as its own user"
for tool in cc gcc clang ld as make ninja meson python3 perl apt apt-get dpkg curl wget; do
    [ ! -e "$root/usr/bin/$tool" ] || die "$tool is in the image"
done
setuid=$(find "$root" -xdev -type f -perm /6000 | head -n 3)
[ -z "$setuid" ] || die "setuid: $setuid"
say "packages in its SBOM" "$(grep -c '"SPDXID": "SPDXRef-deb-' "$root/usr/share/sluice/sbom.spdx.json")"

# ---- whether it works -------------------------------------------------------------------------------
start() {
    if [ -n "${CA:-}" ]; then
        set -- -v "$CA:/run/sluice/ca.crt:ro" -e SSL_CERT_FILE=/run/sluice/ca.crt
    fi
    if [ "$engine" = buildah ]; then
        exec buildah run --user 10001:10001 -v "$data:/var/lib/sluice" \
            -e SLUICE_LISTEN="127.0.0.1:$port" -e SLUICE_LOADING_PULL="${PULL:-smollm2,minilm}" \
            -e PIP_INDEX_URL="${PIP_INDEX_URL:-}" -e https_proxy="${https_proxy:-}" "$@" "$container" -- /usr/bin/sluice serve
    fi
    exec "$engine" run --rm --name "sluice-check-$$" --network host --read-only --tmpfs /tmp \
        --cap-drop ALL --security-opt no-new-privileges -v "$data:/var/lib/sluice" \
        -e SLUICE_LISTEN="127.0.0.1:$port" -e SLUICE_LOADING_PULL="${PULL:-smollm2,minilm}" \
        -e PIP_INDEX_URL="${PIP_INDEX_URL:-}" -e https_proxy="${https_proxy:-}" "$@" "$image"
}
inside() {
    if [ "$engine" = buildah ]; then
        buildah run --user 10001:10001 -v "$data:/var/lib/sluice" -e SLUICE_LISTEN="127.0.0.1:$port" \
            "$container" -- "$@"
    else
        "$engine" exec "sluice-check-$$" "$@"
    fi
}
start >"$work/log" 2>&1 &
server=$!
i=0
until inside /usr/bin/sluice health --quiet --ready 2>/dev/null; do
    i=$((i + 1))
    kill -0 "$server" 2>/dev/null && [ $i -lt 600 ] || { tail -n 20 "$work/log" >&2; die "it did not become ready"; }
    sleep 1
done
say "health" "$(inside /usr/bin/sluice health)"
answer=$(curl -sS --noproxy '*' "$url/v1/embeddings" -H 'Content-Type: application/json' \
    -d '{"model": "minilm", "input": "a small house by the river"}')
case $answer in *'"embedding":['*) say "an embedding" "$(printf '%s' "$answer" | wc -c) bytes" ;; *) die "$answer" ;; esac
answer=$(curl -sS --noproxy '*' "$url/v1/chat/completions" -H 'Content-Type: application/json' \
    -d '{"model": "smollm2", "max_tokens": 8, "messages": [{"role": "user", "content": "Hello!"}]}')
case $answer in *'"content":"'*) say "an answer" "$(printf '%s' "$answer" | wc -c) bytes" ;; *) die "$answer" ;; esac
inside /usr/bin/sluice backup --to - >"$work/backup.tar.zst"
say "a backup" "$(wc -c <"$work/backup.tar.zst") bytes"
inside /usr/bin/sh -c 'touch /usr/x' 2>/dev/null && die "its root can be written"
say "root" "cannot be written by its user"
echo "the image is well"
