#!/usr/bin/env python3
"""A software bill of materials (SPDX 2.3, JSON) of an image or of a program.

    tools/sbom.py --status FILE --program sluice > sbom.spdx.json

--status is dpkg's list of what is installed (/var/lib/dpkg/status of the image); without it, of the
libraries' packages of this machine that the program needs. SOURCE_DATE_EPOCH gives the time."""
import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


def version():
    with open(os.path.join(ROOT, "meson.build")) as f:
        return re.search(r"^\s*version: '([^']+)'", f.read(), re.M).group(1)


def stanzas(text):
    for part in text.strip().split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): *(.*)$", part, re.M))
        if fields.get("Status", "install ok installed").endswith(" installed"):
            yield fields


def needed(program):
    """The stanzas of the packages a program needs here, and of what they need."""
    script = os.path.join(ROOT, "tools", "runtime-packages.sh")
    names = subprocess.run([script, program], capture_output=True, text=True, check=True).stdout.split()
    text = subprocess.run(["dpkg-query", "-s", *names], capture_output=True, text=True, check=False).stdout
    return stanzas(text)


def package(fields):
    name, number = fields["Package"], fields["Version"]
    source = fields.get("Source", name)
    purl = f"pkg:deb/debian/{name}@{number}?arch={fields.get('Architecture', 'all')}&distro=debian-12"
    return {
        "SPDXID": "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", f"deb-{name}-{fields.get('Architecture', 'all')}"),
        "name": name, "versionInfo": number, "downloadLocation": "NOASSERTION", "filesAnalyzed": False,
        "supplier": "Organization: Debian", "sourceInfo": f"built from the Debian source package {source}",
        "licenseConcluded": "NOASSERTION", "licenseDeclared": "NOASSERTION", "copyrightText": "NOASSERTION",
        "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
                          "referenceLocator": purl.replace("+", "%2B").replace("~", "%7E")}]}


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--status")
    args.add_argument("--program", required=True)
    o = args.parse_args()
    with open(o.program, "rb") as f:
        digest = hashlib.sha256(f.read()).hexdigest()
    if o.status:
        with open(o.status, encoding="utf-8") as f:
            found = list(stanzas(f.read()))
    else:
        found = list(needed(o.program))
    packages = sorted((package(s) for s in found), key=lambda p: p["SPDXID"])
    sluice = {"SPDXID": "SPDXRef-sluice", "name": "sluice", "versionInfo": version(), "filesAnalyzed": False,
              "downloadLocation": "NOASSERTION", "licenseConcluded": "Apache-2.0", "licenseDeclared": "Apache-2.0",
              "copyrightText": "NOASSERTION", "primaryPackagePurpose": "APPLICATION",
              "checksums": [{"algorithm": "SHA256", "checksumValue": digest}]}
    at = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    document = {
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"sluice-{version()}", "documentNamespace": f"https://spdx.org/spdxdocs/sluice-{version()}-{digest}",
        "creationInfo": {"created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)),
                         "creators": ["Tool: tools/sbom.py", "Organization: Sluice"]},
        "packages": [sluice, *packages],
        "relationships": [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES",
                           "relatedSpdxElement": "SPDXRef-sluice"}]
        + [{"spdxElementId": "SPDXRef-sluice", "relationshipType": "DEPENDS_ON", "relatedSpdxElement": p["SPDXID"]}
           for p in packages]}
    json.dump(document, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
