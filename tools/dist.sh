#!/bin/sh
# What a release hands out: tools/dist.sh BUILD puts into dist/ an archive of the program, its units and
# documents, and the list of what it is made with. The same source gives the same archive.
set -eu
cd "$(dirname "$0")/.."
build=$1
version=$(sed -n "s/^ *version: '\(.*\)',$/\1/p" meson.build | head -n 1)
name=sluice-$version-linux-$(uname -m)
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p dist "$work/$name/docs"
install -s -m 0755 "$build/sluice" "$work/$name/sluice"
cp LICENSE README.md "$work/$name/"
cp docs/*.md "$work/$name/docs/"
cp -r deploy docs/reference "$work/$name/"
mv "$work/$name/reference" "$work/$name/docs/"
tools/runtime-packages.sh "$build/sluice" >"$work/$name/packages.txt"
tools/sbom.py --program "$work/$name/sluice" >"dist/$name.spdx.json"
cp "dist/$name.spdx.json" "$work/$name/sbom.spdx.json"
tar -C "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
    --mode=u=rwX,go=rX -cf - "$name" | gzip -9n >"dist/$name.tar.gz"
echo "dist/$name.tar.gz"
