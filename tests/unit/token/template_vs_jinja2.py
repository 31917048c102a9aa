"""Renders templates with our interpreter and with Python's jinja2 and compares.

Usage: template_vs_jinja2.py RENDER_TEMPLATE [DIRECTORY]

Runs the expressions and templates below; with a directory also every *.jinja in it against the
conversations below. A case agrees when both give the same text or both fail. Exit code 77 when
jinja2 is not installed. Last line: N passed, N failed.
"""
import copy
import datetime
import json
import os
import pathlib
import subprocess
import sys

try:
    import jinja2
    import jinja2.ext
    import jinja2.sandbox
except ImportError:
    sys.exit(77)

NOW = 1753900000


class Generation(jinja2.ext.Extension):
    """{% generation %}: transparent here, as when Transformers is not asked for the mask."""

    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


ENV = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, Generation])
ENV.filters["tojson"] = tojson
ENV.globals["raise_exception"] = raise_exception
ENV.globals["strftime_now"] = lambda f: datetime.datetime.fromtimestamp(NOW).strftime(f)

VARS = {
    "s": "Hello, World", "u": "Größe ÄÖÜ ß 漢字 😀", "n": 7, "neg": -7, "f": 2.5, "z": 0,
    "none_v": None, "t": True, "no": False, "empty": "", "l": [3, 1, 2], "words": ["b", "A", "c"],
    "d": {"b": 1, "a": 2, "items": "x"}, "nested": {"x": [1, {"y": "z"}], "q": "it's \"q\""},
    "rows": [{"name": "Bob", "age": 3}, {"name": "al", "age": 1}, {"name": "Cy", "age": 3}],
    "ws": "  a  b\n c\t", "html": "<b>x & y</b>", "js": "{\"a\": 1}",
    "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}],
}

EXPRESSIONS = r"""
1 + 2 * 3 - 4 // 3 % 5 | 7 // 2 | -7 // 2 | 7 % -3 | -7 % 3 | 7.5 // 2 | -7.5 % 2 | 2 ** 10
2 ** -1 | 2 ** 3 ** 2 | -2 ** 2 | 1 / 3 | 4 / 2 | 1 / 0 | 1 // 0 | 1 % 0 | 10 ** 18 / 10 ** 18
1e3 | 1_000 | 1.5e-7 | 1e16 | 1e22 | 123456789.123 | 0.1 + 0.2 | 1.0 | 100000000000000000.0 | 0x1F
true + 1 | true == 1 | 1 == 1.0 | '1' == 1 | none == none | 'a' < 'b' | 1 < 'a' | [1, 2] < [1, 3]
1 < 2 < 3 | 3 > 2 > 2 | 1 in [1, 2] | 'a' in 'cat' | 'b' in d | 'zz' in d | 1 in 'a' | 2 not in [1]
x is defined | s is defined | x | x.y | x['y'] | x + 1 | x ~ 'a' | d.zz | d.zz.y | d.zz is undefined
x == y | x == none | x in [1] | 1 in x | x|length | x|upper | x|int | x|list | x|first | x|tojson
not x | x or 'd' | x and 1 | s and 1 | '' or none | none or false | 0 or [] | x|default('d')
x if no | 1 if t else 2 | (1 if no) is defined | 'a' ~ 1 ~ none ~ true ~ 1.5 | 'a' + 1 | [1] + [2]
(1, 2) + (3,) | (1,) | () | [] | {} | {'a': 1, 'b': [1, 'x', none, true]} | ['it\'s', "q\"", 'a\nb']
'a' 'b' | 'a\x41\u00e9\n\t\\b\q' | "é漢" | 'a' * 3 | 3 * 'a' | [1] * 2 | 'a' * -1 | 'a' * 1.5
s[0] | s[-1] | s[99] | s[1:3] | s[::-1] | s[-3:] | s[:-3] | s[::2] | s[5:1:-1] | u[2] | u[-1] | u[::-1]
u|length | l[0] | l[-1] | l[5] | l[1:] | l[::-1] | (1,2,3)[1:] | l['a'] | l[none] | s[none:2] | d[1:]
none[0] | none.x | none_v[1:] | n.x | n[0] | d['items'] | d.b | d['b'] | d[0] | d.get('b')
d.get('q') | d.get('q', 1) | d.keys() | d.values()|list | d.items()|list | d|items|list | d|length
d.keys()|list | d.pop('b') | l.append(1) | l.index(1) | l.count(3) | l.index(99) | d.copy() | l.copy()
d.update({}) | d.clear() | d.setdefault('a') | l.pop() | l.sort() | l.__class__ | s.__len__
s.upper() | s.lower() | s.title() | s.capitalize() | s.swapcase() | u.upper() | u.lower() | u.title()
'they\'re bill\'s'.title() | 'they\'re x-y (z)'|title | 'hELLO wORLD'|capitalize | 'ΑΣ ΣΑΣ'.lower()
s.strip() | ws.strip() | ws.lstrip() | ws.rstrip() | 'xxaxx'.strip('x') | 'abcba'.strip('ab') | ws|trim
'xax'|trim('x') | s.split() | ws.split() | 'a,b,,c'.split(',') | 'a,b,c'.split(',', 1) | ''.split()
''.split(',') | 'a b c'.split(none, 1) | 'a b c'.rsplit(none, 1) | 'a,b,c'.rsplit(',', 1) | s.split('')
'a\nb\r\nc\n'.splitlines() | 'a\nb'.splitlines(true) | s.startswith('He') | s.startswith(('x', 'H'))
s.endswith('ld') | s.endswith(1) | s.replace('l', 'L') | s.replace('l', 'L', 1) | 'abc'.replace('', '-')
'abc'.replace('', '-', 2) | 'aaa'.replace('aa', 'b') | s|replace('o', '0') | s|replace('o', '0', 1)
s.find('o') | s.rfind('o') | s.find('zz') | s.index('zz') | s.count('l') | 'aaaa'.count('aa') | u.find('字')
s.find('o', 5) | 'a-b-c'.partition('-') | 'a-b-c'.rpartition('-') | 'abc'.partition('z')
'abc'.removeprefix('a') | 'abc'.removesuffix('c') | 'abc'.removeprefix('x') | '42'.zfill(5) | '-42'.zfill(5)
'ab'.ljust(5) ~ '|' | 'ab'.rjust(5, '.') | 'ab'.center(5, '*') | 'abc'.center(6, '*') | 'a\tb'.expandtabs(4)
'12'.isdigit() | 'a1'.isalnum() | 'ab'.isalpha() | ' '.isspace() | 'AB'.isupper() | 'ab'.islower()
''.isdigit() | 'Ab Cd'.istitle() | '²'.isdigit() | '½'.isnumeric() | ', '.join(words) | ','.join([1])
'%s is %d' % ('a', 3) | '%5.2f|%-5s|%05d' % (3.14159, 'ab', 42) | '%x %X %o' % (255, 255, 8) | '%%' % ()
'%s' % 1 | '%s %s' % (1,) | '%s' % (1, 2) | '%(a)s' % {'a': 1} | '%r' % ('a',) | '%e' % 12345.678
'%+d % d' % (5, 5) | '%c%c' % ('a', 98) | '%d' % 'a' | '%s'|format('x') | '%(a)s'|format(a=1) | '%d' % 3.9
'%g' % 0.0001 | '%10s|' % 'ab' | '%.2s' % 'abc' | '{} {}'.format(1, 'a') | '{1} {0}'.format(1, 2)
'{a}'.format(a=1) | '{:>5}|{:<5}|{:^5}'.format(1, 2, 3) | '{:05d}'.format(42) | '{:.2f}'.format(3.14159)
'{:,}'.format(1234567) | '{:x}'.format(255) | '{!r}'.format('a') | '{0[0]}'.format([1]) | '{'.format()
'{{}}'.format() | '{:%}'.format(0.5) | '{:*^9}'.format('a') | '{:s}'.format(1) | '{:+}'.format(5) | '{:e}'.format(1.5)
n|abs | neg|abs | f|round | 2.567|round(2) | 2.5|round | 3.5|round | 42|round | 2.1|round(0, 'ceil')
2.9|round(0, 'floor') | 1234|round(-2) | '3.7'|int | '42'|int | 'x'|int | 'x'|int(5) | ' 7 '|int | '1_0'|int
'ff'|int(0, 16) | '0x1f'|int(0, 16) | none|int | f|int | true|int | '1.5'|float | 'x'|float | 'x'|float(1.5)
n|float | '1e3'|int | 'inf'|int | n|string | l|string | none|string | l|sum | l|min | l|max | []|min | []|sum
rows|sum(attribute='age') | rows|map(attribute='name')|list | rows|map(attribute='zz', default='d')|list
words|map('upper')|list | words|map('upper') is iterable | l|map('string')|join(',') | l|sort | l|sort(reverse=true)
words|sort | words|sort(case_sensitive=true) | rows|sort(attribute='age,name')|map(attribute='name')|list
rows|sort(attribute='name')|map(attribute='name')|join | rows|groupby('age')|list | d|dictsort | d|dictsort(by='value')
rows|groupby('age')|map(attribute='grouper')|list | [1,'a']|sort | d|dictsort(reverse=true) | ['a','A','b']|unique|list
[1,1,2]|unique|list | rows|selectattr('age', 'eq', 3)|map(attribute='name')|list | rows|selectattr('age')|list|length
rows|rejectattr('age', 'equalto', 3)|list | l|select('odd')|list | l|reject('odd')|list | l|select('>', 1)|list
l|select|list | l|first | l|last | []|first | s|first | s|last | l|reverse|list | s|reverse | l|join('-') | l|join
rows|join(', ', attribute='name') | l|batch(2)|list | l|batch(2, 'x')|list | l|slice(2)|list | l|slice(2, 'x')|list
s|length | d|length | n|length | none|length | (l|select)|length | s|wordcount | ''|wordcount | 'a-b c_d'|wordcount
'a\nb\n\nc'|indent | 'a\nb'|indent(2, true) | 'a\n\nb'|indent(2, blank=true) | 'a\nb'|indent('> ') | none|indent
html|e | html|escape | html|safe | (html|e) + '<' | '<' ~ (html|e) | html|e|e | html|forceescape | html|striptags
s|truncate(5) | s|truncate(5, true) | 'hello big world'|truncate(9) | 'hello big world'|truncate(9, false, '!', 0)
'a'|center(5) ~ '|' | 'a b&c/d'|urlencode | {'a': 1, 'b c': 'd e'}|urlencode | {'a': 1, 'b': none}|xmlattr
d|tojson | nested|tojson | nested|tojson(indent=2) | [1, 2]|tojson(indent=4) | []|tojson(indent=2) | u|tojson
u|tojson(ensure_ascii=true) | d|tojson(sort_keys=true) | d|tojson(separators=(',', ':')) | 1.0|tojson | none|tojson
(1, 2)|tojson | 'a"\\\n\x01\x7f'|tojson | {1: 2, none: 3, true: 4, 1.5: 5}|tojson | range(3)|tojson | {'a': x}|tojson
n is number | t is number | t is integer | n is integer | f is float | s is string | l is sequence | d is mapping
d is sequence | s is iterable | n is iterable | none_v is none | t is true | no is false | t is boolean | n is odd
n is even | n is divisibleby(7) | n is divisibleby 3 | s is sameas s | 1 is sameas true | 'AB' is upper | 'ab' is lower
'upper' is filter | 'zz' is filter | 'odd' is test | range is callable | s is callable | n is eq 7 | n is ge 7 | n is lt 3
n is in [7] | n is not in [7] | html|e is escaped | x is none | x is not defined | x is mapping | x is sequence | 2.0 is even
range(3)|list | range(1, 4)|list | range(5, 0, -2)|list | range(3) | range(0) | range(3)[1] | range('a') | range(1.5)
range(1, 2, 0) | range(200000) | range(10)|length | range(10)[2:4]|list | dict(a=1, b=2) | dict([('a', 1)]) | dict({'a': 1}, b=2)
[1, 2][true] | 'ab'[true] | {1: 'a'}[true] | {'a': 1}['a'] | {[]: 1} | d == {'a': 2, 'b': 1, 'items': 'x'} | [1, [2]] == [1, [2]]
raise_exception('no') | strftime_now('%Y-%m-%d') | strftime_now('%d %b %Y %H:%M:%S %A %B %j %y %p %I') | undefined_fn() | s()
s.nope() | s.nope | -s | +n | -none_v | -t | --n | not not t | (n) | ((1, 2)) | 1, 2 | [1, 2,] | {'a': 1,}
l|nofilter | l is notest | 'a' if 1 is defined else 'b' | s|upper|lower|length | -7|abs | 'a' ~ 'b'|upper | ('a' ~ 'b')|upper
'A' < 'a' | 'é' > 'z' | none < 1 | [] < {} | d.items() | d.values() | l|map('upper') is callable
'%s' % none | '%s' % (l,) | '%s' % l | 'a' % 1 | l|join(', ')|upper | words|join(', ')|lower | (1, 'a', none)|string | 1e400
'😀a'[0] | '😀a'|length | '😀'|tojson(ensure_ascii=true) | 'a😀b'[1:2] | 'ß'.upper() | 'ﬁ'.upper() | 'ǆ'.title() | 'İ'.lower()
'\u200b' in ['\u200b'] | ['\u200b', '\xa0', '\x7f', '\u00e9'] | ['\\'] | 'a' 'b'.upper() | cycler('a', 'b').next() | joiner()()
namespace(a=1).a | namespace(a=1).b | namespace(a=1)['a'] | namespace() is mapping | s is s | {'a':1}|items|first | 7|string|length
""" + "\n" + "\n".join(["'x' is defined if t", "1 if t if no else 3", "loop", "caller()", "varargs",
    "super is defined", "d|attr('b')", "l|pprint", "d|list",
    "'a,b'.split(sep=',')", "[1,2,3]|sum(start=10)", "0.1", "5e-324", "-0.0", "1e5",
    "12345678901234567", "0 == -0.0", "0.0 == false", "u|capitalize", "u|title", "ws|title|trim",
    "'a\x0bb'.split()", "'x' in none", "'x' in 5", "s|default('q')", "empty|default('q')",
    "empty|default('q', true)", "no|d('q', true)", "none_v|default('q')", "js|tojson", "js|tojson|tojson",
    "messages[0]", "messages|map(attribute='role')|join(',')", "messages[-1].role", "messages[1:]|length",
    "messages|selectattr('role', 'ne', 'system')|list", "messages[5].role", "messages['role']"])

TEMPLATES = [
    "{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.previtem }}{{ loop.nextitem }};{% endfor %}",
    "{% for i in l %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% else %}none{% endfor %}",
    "{% for i in l %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in [] %}x{% else %}empty{% endfor %}", "{% for i in l if i > 1 %}{{ i }}{{ loop.last }}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }},{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in [1] %}{% endfor %}",
    "{% for i in n %}{% endfor %}", "{% for i in x %}{% else %}e{% endfor %}", "{% for i in none_v %}{% endfor %}",
    "{% for i in l %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for i in [1,1,2] %}{{ loop.changed(i) }}{% endfor %}",
    "{% for i in [1,[2,[3]]] recursive %}{% if i is iterable %}<{{ loop(i) }}>{% else %}{{ i }}{{ loop.depth }}{% endif %}{% endfor %}",
    "{% for i in [1] %}{{ loop([1]) }}{% endfor %}", "{% for i in l %}{% for j in l %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}",
    "{% set a = 1 %}{% for i in l %}{% set a = i %}{{ a }}{% endfor %}{{ a }}", "{% if t %}{% set a = 1 %}{% endif %}{{ a }}",
    "{% if no %}{% set n = 1 %}{% endif %}{{ n }}", "{% set ns = namespace(a=1) %}{% for i in l %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}",
    "{% set d.x = 1 %}", "{% set zz.x = 1 %}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = [1] %}", "{% set a = 1, 2 %}{{ a }}",
    "{% set x %}a{{ n }}b{% endset %}{{ x }}", "{% set x | upper %}ab{% endset %}{{ x }}", "{% set x | upper | replace('A', '-') %}ab{% endset %}{{ x }}",
    "{% filter upper %}ab{{ s }}{% endfilter %}", "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q }}",
    "{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }};{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(b=1, a=5) }}{{ m() }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(z=2) }}",
    "{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, z=4) }}", "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}x{{ n }}{% endcall %}",
    "{% macro m() %}{{ caller(1) }}{{ caller(2) }}{% endmacro %}{% call(q) m() %}<{{ q }}>{% endcall %}", "{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}",
    "{% macro m() %}{% endmacro %}{{ m.name }}{{ m.arguments }}{{ m.catch_kwargs }}", "{% macro f(k) %}{% if k > 0 %}{{ k }}{{ f(k - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% set a = 1 %}{% macro m() %}{{ a }}{% endmacro %}{% set a = 2 %}{{ m() }}", "{% for i in l %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}",
    "{{ m() }}{% macro m() %}x{% endmacro %}", "{% macro m(a) %}{{ a is defined }}{{ a }}{% endmacro %}{{ m() }}", "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}",
    "a\n  {% if t %}\n  b\n  {% endif %}\nc", "a\n  {%+ if t %}\n  b\n  {%- endif +%}\nc", "a  {{- n -}}  b", "a  {%- if t -%}  b  {%- endif -%}  c", "{# c #}\nx{#- y -#} z",
    "  {# c #}  \nx", "a {# {{ x }} #} b", "{% raw %}{{ x }}{% endraw %}", "{% raw %}\n a {% y %}\n {% endraw %}\nb", "a  {%- raw -%}  {{ x }}  {%- endraw -%}  b",
    "{% generation %}x{{ n }}{% endgeneration %}", "{% generation %}\n{% set q = 1 %}{% endgeneration %}{{ q }}", "x\n", "x\n\n", "\n\nx", "a\r\nb\rc", "{% if t %}\r\nx{% endif %}",
    "  {% set a = 1 %}  {{ a }}", "{{ '}}' }}", "{{ '%}' }}", "{{ {'a': {'b': 1}} }}", "{% if %}{% endif %}", "{% if t %}", "{% endif %}", "{% for %}{% endfor %}", "{{ }}", "{{ 1 + }}", "{% foo %}",
    "{% if no %}a{% elif n == 7 %}b{% elif t %}c{% else %}d{% endif %}", "{% if no %}{{ s|nofilter }}{% endif %}x", "{% for i in [] %}{{ s|nofilter }}{% endfor %}x", "{{ 'a' }", "{{ (1 }}", "{{ 1) }}", "{{ 'a }}",
    "{% set true = 1 %}", "{% set l[0] = 1 %}", "{% set a.b.c = 1 %}", "{{ a b }}", "{{ a.1 }}", "{{ l.0 }}", "{{ l.0.1 }}", "{{ d.b|string ~ 'x' }}", "{% print n %}",
    "{% set g = l|select('odd') %}{{ g|list }}{{ g|list }}", "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.next() }}{{ c.reset() }}{{ c.current }}", "{% set j = joiner('|') %}{% for i in l %}{{ j() }}{{ i }}{% endfor %}",
    "{% for g in rows|groupby('age') %}{{ g.grouper }}:{{ g.list|length }}{{ g[0] }};{% endfor %}", "{% for k, v in rows|groupby('age') %}{{ k }}{{ v|length }}{% endfor %}", "{% for row in l|batch(2) %}{{ row }}{% endfor %}",
    "{% for c in u %}{{ c }}.{% endfor %}", "{% for m in messages %}<|{{ m.role }}|>\n{{ m['content'] | trim }}{{ '<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}x{% endif %}",
    "{%- set loop_messages = messages[1:] if messages[0]['role'] == 'system' else messages -%}{{ loop_messages }}", "{% for m in messages[::-1] %}{% set index = (messages|length - 1) - loop.index0 %}{{ index }}{% endfor %}",
    "{% set ns = namespace(m=[]) %}{% for i in l %}{% set ns.m = ns.m + [i] %}{% endfor %}{{ ns.m }}", "{% set _ = l.append(1) %}", "{% set ns = namespace(x='') %}{% for w in words %}{% set ns.x = ns.x + w %}{% set y = ns.x %}{{ y }},{% endfor %}{{ ns.x }}",
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}{% endif %}{% endfor %}", "{% set content %}{% for i in l %}{{ i }}{% endfor %}{% endset %}{{ content|trim }}",
    "{% macro render(p) %}{% if p is mapping %}{% for k, v in p|items %}{{ k }}:{{ render(v) }}{% endfor %}{% elif p is iterable and p is not string %}[{% for v in p %}{{ render(v) }}{% if not loop.last %}, {% endif %}{% endfor %}]{% else %}{{ p }}{% endif %}{% endmacro %}{{ render(nested) }}",
    "{%- if messages[0].role == 'system' %}\n    {{- '<s>' + messages[0].content + '</s>' }}\n{%- else %}\n    {{- 'x' }}\n{%- endif %}\n", "{{- 'a' -}}\n\n{{ 'b' }}\n{%- for i in l %}\n{{ i }}\n{%- endfor %}", "{% if 'a' in s and s.split(',')[-1].strip('\\n') == ' World' %}y{% endif %}",
    "{% for i in range(3) %}{{ x }}{% set x = i %}{% endfor %}", "{% set x = 1 %}{% if t %}{% set x = 2 %}{% endif %}{{ x }}", "{% for i in l %}{% if loop.first %}{% set a = 1 %}{% endif %}{{ a }}{% endfor %}", "{% for loop in l %}{{ loop }}{% endfor %}",
]

TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "Weather for a \"city\" <now>",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "Größe"},
        "unit": {"type": "string", "enum": ["c", "f"]},
        "days": {"type": "integer", "default": 1}}, "required": ["city"]}}}]


def conversations():
    user = {"role": "user", "content": "Hi there  "}
    bot = {"role": "assistant", "content": "Hello <b>you</b>"}
    system = {"role": "system", "content": "Be kind."}
    call = {"city": "Zürich", "days": 2, "ok": True, "l": [1, None]}

    def tools(arguments, content):
        return [user, {"role": "assistant", "content": content, "tool_calls": [
            {"id": "call12345", "type": "function",
             "function": {"name": "get_weather", "arguments": arguments}}]},
            {"role": "tool", "tool_call_id": "call12345", "name": "get_weather",
             "content": "{\"t\": 20}"}]

    base = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True}
    long = [system, user, bot, {"role": "user", "content": "And?"}]
    yield "plain", {**base, "messages": [user]}
    yield "system", {**base, "messages": [system, user]}
    yield "turns", {**base, "messages": long}
    yield "no-prompt", {**base, "messages": long[:3], "add_generation_prompt": False}
    yield "no-turns", {**base, "messages": []}
    yield "parts", {**base, "messages": [{"role": "user", "content": [
        {"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]}]}
    yield "tools-only", {**base, "messages": [system, user], "tools": TOOLS}
    for name, arguments in ("dict", call), ("string", json.dumps(call)):
        for content in "", None, "Let me look.":
            for more in [], [bot], [bot, user]:
                yield f"tools-{name}-{content}-{len(more)}", {
                    **base, "tools": TOOLS, "messages": tools(arguments, content) + more}
    yield "tools-none", {**base, "messages": [user], "tools": None}
    for flag in True, False:
        yield f"thinking-{flag}", {**base, "messages": long, "enable_thinking": flag,
                                   "thinking": flag}
        think = {**bot, "reasoning_content": "Let me think.\n"}
        yield f"reasoning-{flag}", {**base, "messages": [user, think, user, think],
                                    "enable_thinking": flag, "add_generation_prompt": flag}
        inline = {**bot, "content": "<think>\nhm\n</think>\n\nHello"}
        yield f"inline-{flag}", {**base, "messages": [user, inline, user],
                                 "add_generation_prompt": flag}
    yield "documents", {**base, "messages": [user], "documents": [
        {"title": "T", "text": "body", "doc_id": 1}, {"title": "U", "contents": "c"}]}
    yield "date", {**base, "messages": long, "date_string": "26 Jul 2024"}
    yield "effort", {**base, "messages": long, "reasoning_effort": "high",
                     "model_identity": "You are X."}
    yield "developer", {**base, "messages": [{"role": "developer", "content": "D"}, user]}
    yield "two-users", {**base, "messages": [user, user]}
    yield "odd-role", {**base, "messages": [user, {"role": "critic", "content": "x"}]}


class Ours:
    def __init__(self, path):
        self.pipe = subprocess.Popen([*os.environ.get("MESON_EXE_WRAPPER", "").split(), path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     text=True)

    def render(self, template, variables):
        self.pipe.stdin.write(json.dumps({"template": template, "vars": variables, "now": NOW})
                              + "\n")
        self.pipe.stdin.flush()
        return json.loads(self.pipe.stdout.readline())


def reference(template, variables):
    try:
        return {"out": ENV.from_string(template).render(**copy.deepcopy(variables))}
    except Exception as e:  # whatever Python raises counts as an error
        return {"error": f"{type(e).__name__}: {e}"}


def cases(directory):
    for line in EXPRESSIONS.split("\n"):
        for e in line.split(" | "):
            if e.strip():
                yield e, "{{ " + e + " }}", VARS
    for t in TEMPLATES:
        yield t[:60], t, VARS
    for path in sorted(pathlib.Path(directory).glob("*.jinja")) if directory else []:
        for name, variables in conversations():
            yield f"{path.name} {name}", path.read_text(encoding="utf-8"), variables


def main():
    ours = Ours(sys.argv[1])
    passed = failed = errors = 0
    for name, template, variables in cases(sys.argv[2] if len(sys.argv) > 2 else None):
        want, got = reference(template, variables), ours.render(template, variables)
        if want.get("out") == got.get("out"):
            passed += 1
            errors += "error" in want
            continue
        failed += 1
        if failed <= 40:
            print(f"{name}\n  jinja2: {want!r:.300}\n  ours:   {got!r:.300}")
    print(f"{errors} cases agree on an error\n{passed} passed, {failed} failed")
    return failed != 0


sys.exit(main())
