#!/usr/bin/env python3
"""Writes docs/reference/*.md, one page per dialect, from the program's own OpenAPI document.

    tools/api_docs.py SLUICE            writes the pages
    tools/api_docs.py SLUICE --check    fails when a page on disk says something else
"""
import json
import os
import re
import subprocess
import sys

DOCS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "docs", "reference")
HEAD = "<!-- Made by tools/api_docs.py from the tables that check requests; do not edit. -->\n"


def type_of(schema):
    if "$ref" in schema:
        return f"`{schema['$ref'].split('/')[-1]}`"
    if "allOf" in schema:
        return type_of(schema["allOf"][0])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(t for t in map(type_of, schema[key]) if t != "null"))
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(v)}`" for v in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    types = schema.get("type", "any")
    types = [types] if isinstance(types, str) else types
    text = " or ".join(t for t in types if t != "null") or "null"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        text += f", {low} to {high}"
    elif low is not None:
        text += f", from {low}"
    elif high is not None:
        text += f", up to {high}"
    return text


def field_rows(schema):
    required = set(schema.get("required", []))
    for name, rule in schema.get("properties", {}).items():
        support = rule["x-support"]
        note = rule.get("description", "")
        if support == "no-effect":
            note = "no effect" + (f": {note}" if note else "")
        kind = "" if support == "no-effect" else type_of(rule)
        if support == "refused":
            kind, note = "**refused**", note or "not supported yet"
        yield f"| `{name}`{' (required)' if name in required else ''} | {kind} | {note} |".replace("|  |", "| |")


def inner_names(schema):
    """Bodies that stand in fields of this one."""
    for rule in schema.get("properties", {}).values():
        for option in rule["allOf"][0].get("anyOf", []):
            if "$ref" in option:
                yield option["$ref"].split("/")[-1]


def body_table(name, schemas, shown):
    """The body's fields, then those of the bodies in it; each once on a page."""
    if name in shown:
        return f"Body: the fields of `{name}`, above.\n"
    shown.add(name)
    schema = schemas[name]
    extra = "ignored" if schema["additionalProperties"] else "refused"
    text = (f"Body `{name}`; unknown fields are {extra}.\n\n| field | type | |\n|---|---|---|\n"
            + "\n".join(field_rows(schema)) + "\n")
    return "\n".join([text] + [body_table(n, schemas, shown) for n in inner_names(schema) if n not in shown])


def page(tag, operations, schemas):
    out = [HEAD, f"# {tag}\n"]
    shown = set()
    for path, method, op in operations:
        permission = op.get("x-permission")
        out.append(f"## `{method.upper()} {path}`\n\n{op['summary']}."
                   + (f" Permission `{permission}`." if permission else " Open to everybody.") + "\n")
        body = op.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {}).get("$ref")
        if body:
            out.append(body_table(body.split("/")[-1], schemas, shown))
    return "\n".join(out)


def config_rows(schema, path):
    kind = schema.get("type")
    if kind == "object":
        for name, inner in schema["properties"].items():
            yield from config_rows(inner, f"{path}.{name}" if path else name)
    elif kind == "array":
        yield from config_rows(schema["items"], path + "[]")
    else:
        default = schema.get("default")
        default = "" if default is None or default in (0, "0") else f"`{default}`"
        reloads = "yes" if schema.get("x-reloads") else ""
        yield f"| `{path}` | {kind} | {default} | {reloads} | {schema.get('description', '')} |"


def config_page(schema):
    return (HEAD + "\n# Configuration keys\n\nA list's entries are written `[]`. Keys that reload change with SIGHUP; "
            "the others need a restart.\n\n| key | type | default | reloads | |\n|---|---|---|---|---|\n"
            + "\n".join(config_rows(schema, "")) + "\n")


def pages(document):
    groups = {}
    for path, item in document["paths"].items():
        for method, op in item.items():
            groups.setdefault(op["tags"][0], []).append((path, method, op))
    for tag, operations in groups.items():
        name = re.sub(r"[^a-z0-9]+", "-", tag.lower()).strip("-") + ".md"
        yield name, page(tag, operations, document["components"]["schemas"])


def main():
    binary, check = sys.argv[1], "--check" in sys.argv[2:]
    document = json.loads(subprocess.run([binary, "openapi"], capture_output=True, check=True).stdout)
    wanted = dict(pages(document))
    schema = subprocess.run([binary, "config", "schema"], capture_output=True, check=True).stdout
    wanted["configuration.md"] = config_page(json.loads(schema))
    os.makedirs(DOCS, exist_ok=True)
    wrong = sorted(set(os.listdir(DOCS)) - set(wanted))
    for name, text in wanted.items():
        path = os.path.join(DOCS, name)
        if check:
            if not os.path.exists(path) or open(path, encoding="utf-8").read() != text:
                wrong.append(name)
        else:
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
    if wrong:
        sys.exit("docs/reference: not as the program says: " + ", ".join(wrong) + "; run tools/api_docs.py")


main()
