#!/bin/sh
# Prints the Debian packages that a built program needs at run time, one a line: those that own the
# libraries it names, and what it needs beyond libraries. What these need in turn, apt knows.
set -eu
program=$1

for library in $(objdump -p "$program" | sed -n 's/^ *NEEDED *//p'); do
    path=$(ldd "$program" | sed -n "s|^[[:space:]]*$library => \([^ ]*\) .*|\1|p")
    [ -n "$path" ] || continue # the loader itself
    # Both names of a directory that was merged: dpkg knows the one that its package used.
    real=$(readlink -f "$path")
    package=
    for name in "$path" "/usr$path" "${path#/usr}" "$real" "${real#/usr}"; do
        package=$(dpkg-query -S "$name" 2>/dev/null | sed 's/:.*//' | head -n 1) && [ -n "$package" ] && break
    done
    [ -n "$package" ] || { echo "no package owns $path, which $program needs" >&2; exit 1; }
    echo "$package"
done | sort -u

# Certificates of the world, for pulling models; tables that poppler reads for Chinese and Japanese PDFs.
echo ca-certificates
! ldd "$program" | grep -q libpoppler || echo poppler-data
