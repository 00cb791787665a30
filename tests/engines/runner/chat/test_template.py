"""The environment of templates is that of transformers, and what they do has bounds."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from engines.runner.chat import template as templates
from engines.runner.chat import template_files
from engines.runner.chat.template import Template
from engines.runner.patience import Abandoned, Patience
from engines.types.errors import CheckpointUnusable, InvalidRequest
from tests.promises import promise

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "Hot? <b> & 'é' 你好"},
    {
        "role": "assistant",
        "content": "24°",
        "tool_calls": [{"function": {"name": "f", "arguments": {"b": 1, "a": "é"}}}],
    },
]

SAME = {
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "generation trims": "a\n  {%- generation -%}\n b\n  {%- endgeneration %}\nc",
    "generation keeps its names": "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
    "tojson": "{{ messages | tojson }}",
    "tojson ascii": "{{ messages | tojson(ensure_ascii=True) }}",
    "tojson by place": "{{ messages | tojson(True, 2) }}",
    "tojson indent": "{{ messages | tojson(indent=4) }}",
    "tojson separators": "{{ messages | tojson(separators=(',', ':')) }}",
    "tojson separators as a list": "{{ messages | tojson(separators=[',', ': ']) }}",
    "tojson sorted": "{{ messages[1] | tojson(sort_keys=True) }}",
    "all of them": "{{ messages | tojson(ensure_ascii=false, indent=2, separators=(',', ':'), sort_keys=true) }}",
    "break": "{% for m in messages %}{% break %}{{ m.content }}{% endfor %}.",
    "continue": "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content }}{% endfor %}",
    "blocks are trimmed": "  {% if true %}\n  a\n    {% endif %}\nb",
    "namespace": "{% set ns = namespace(x=1) %}{% for m in messages %}{% set ns.x = ns.x + 1 %}{% endfor %}{{ ns.x }}",
    "namespace of a mapping": "{% set ns = namespace({'a': 1}, self=2) %}{{ ns.a }}{{ ns.self }}",
    "dict": "{{ dict(a=1, b=messages[0].role) }}{{ dict.fromkeys(['x']) }}",
    "tools are none": "{{ tools is defined }}{{ tools is none }}{{ documents is none }}{{ tools or 'no' }}",
    "special tokens": "{{ bos_token }}|{{ eos_token }}",
    "items": "{% for k, v in messages[1].tool_calls[0].function.arguments | items %}{{ k }}={{ v }};{% endfor %}",
    "selectattr": "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list }}",
    "slices and methods": "{{ messages[::-1][0].content.strip().upper() }}{{ 'a,b'.split(',')[-1] }}",
    "loop variables": "{% for m in messages %}{{ loop.index0 }}{{ loop.last }}{{ loop.length }}{% endfor %}",
    "macros": "{% macro m(x, y=2) %}{{ x }}-{{ y }}{% endmacro %}{{ m(1) }}{{ m(messages[0].role, 1700000000) }}",
    "recursive": "{% macro r(n) %}{{ n }}{% if n %}{{ r(n - 1) }}{% endif %}{% endmacro %}{{ r(5) }}",
    "joined": "{{ 'a' ~ 1 ~ messages[0].role }}{{ ['a', 'b'] | join(', ') }}{{ 'ab' * 3 }}{{ '%d%%' % 1700000000 }}",
    "formatted": "{{ '%s!' | format('a') }}{{ '{:>5}'.format(3) }}{{ 'a-b' | replace('-', '+') | indent(2, true) }}",
    "undefined": "[{{ nothing }}]{{ nothing is defined }}",
    "not escaped": "{{ '<>&' }}{{ messages[0].content }}",
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_a_template_renders_as_transformers_renders_it(name: str) -> None:
    reference = pytest.importorskip("transformers.utils.chat_template_utils")
    (wanted,), _ = reference.render_jinja_template([TURNS], chat_template=SAME[name], **TOKENS)
    assert Template(SAME[name], TOKENS).render(TURNS, {}) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "{{ raise_exception('no') }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{% set ns = namespace(_x=1) %}",
        "{% set ns = namespace() %}{% set ns._x = 1 %}{{ ns._x }}",
        "{{ dict.__class__ }}{{ dict.mro() }}",
        "{{ messages[0].update({}) }}",
        "{{ nothing.more }}",
    ],
)
def test_what_transformers_refuses_is_refused(text: str) -> None:
    reference = pytest.importorskip("transformers.utils.chat_template_utils")
    with pytest.raises(Exception):  # noqa: B017 - it raises of every kind
        reference.render_jinja_template([TURNS], chat_template=text)
    with pytest.raises(InvalidRequest, match="refuses"):
        Template(text, {}).render(TURNS, {})


def test_the_time_is_told_in_the_layout_that_is_asked_for() -> None:
    assert Template("{{ strftime_now('%Y') }}", {}).render([], {}) == time.strftime("%Y")


# -- bounds ----------------------------------------------------------------------------------------------------------

ENDLESS = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "macros": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "output": "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
}
HUGE = {
    "range": "{% for i in range(10**9) %}{% endfor %}",
    "repetition": "{{ 'x' * 10**9 }}",
    "repetition of a list": "{{ [1] * 10**9 }}",
    "power": "{{ 10 ** (10 ** 9) }}",
    "doubling": "{% set ns = namespace(x='x') %}{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "joining": "{% set ns = namespace(x='x') %}{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "width": "{{ 'x' | center(10**9) }}",
    "JSON in JSON": "{% set ns = namespace(x='\"') %}{% for i in range(60) %}{% set ns.x = ns.x|tojson %}{% endfor %}",
    "JSON of lists": "{% set ns = namespace(x=1) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
    "{{ ns.x | tojson }}",
    "lists as text": "{% set ns = namespace(x=1) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
    "{{ ns.x }}",
    "blocks in blocks": "{% set ns = namespace(x='x') %}{% for i in range(40) %}{% set b %}{{ ns.x }}{{ ns.x }}"
    "{% endset %}{% set ns.x = b %}{% endfor %}",
    "wrapped": "{{ ('a b ' * 9999999) | wordwrap(1) }}",
    "addresses": "{{ ('a' * 9999999) | urlize }}",
    "replaced": "{{ ('a' * 9999999).replace('a', 'b' * 9999999) }}",
    "replaced by a filter": "{{ ('a' * 9999999) | replace('a', 'b' * 9999999) }}",
    "many lines": "{{ ('a\n' * 9999999) | indent(9999999) }}",
    "tabs": "{{ ('a\t' * 9999999).expandtabs(9999999) }}",
    "joined": "{{ ('a' * 99999).join(['b'] * 99999) }}",
    "joined by a filter": "{{ (['b'] * 99999) | join('a' * 99999) }}",
    "indent": "{{ 'a\nb' | indent(10**9) }}",
    "justified": "{{ 'x'.ljust(10**9) }}",
    "format": "{{ '%1000000000d' % 1 }}",
    "format filter": "{{ '%1000000000d' | format(1) }}",
    "format method": "{{ '{:1000000000}'.format(1) }}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "output": "{% for i in range(99999) %}{{ 'x' * 10000 }}{% endfor %}",
}


@promise("chat:template:bounds")
@pytest.mark.parametrize("name", ENDLESS)
def test_a_template_without_end_is_ended(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "RENDER_SECONDS", 0.2)
    monkeypatch.setattr(templates, "PROBE_SECONDS", 0.2)
    template = Template(ENDLESS[name], {})
    with pytest.raises(InvalidRequest, match="no end"):
        template.render(TURNS, {})


@promise("chat:template:bounds")
@pytest.mark.parametrize("name", HUGE)
def test_a_template_that_makes_what_is_huge_is_refused_at_once(name: str) -> None:
    began = time.monotonic()
    with pytest.raises(InvalidRequest, match="refuses"):
        Template(HUGE[name], {}).render(TURNS, {})
    assert time.monotonic() - began < 10


def test_large_numbers_and_percent_signs_are_a_users_to_write() -> None:
    turns = [{"role": "user", "content": "%99999999d {:99999999} 17000000000"}]
    text = "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(17000000000) }}{{ messages[0].content | replace('x', 'y') }}"
    assert Template(text, {}).render(turns, {}) == "17000000000%99999999d {:99999999} 17000000000"


def test_a_rendering_ends_when_its_client_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "PROBE_SECONDS", 0.1)
    template = Template(ENDLESS["loops"], {})
    with pytest.raises(Abandoned):
        template.render(TURNS, {}, Patience(lambda: False))


# -- which template counts -------------------------------------------------------------------------------------------


def folder(path: Path, config: object = None, legacy: object = None, **files: str) -> Path:
    settings = {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": config}
    (path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    if legacy is not None:
        (path / "chat_template.json").write_text(json.dumps({"chat_template": legacy}), encoding="utf-8")
    for name, text in files.items():
        place = path / ("chat_template.jinja" if name == "main" else f"additional_chat_templates/{name}.jinja")
        place.parent.mkdir(exist_ok=True)
        place.write_text(text, encoding="utf-8")
    return path


TEXTS = (("tool_use", "tools"), ("rag", "rag"), ("default", "plain"))
NAMED = [{"name": name, "template": text} for name, text in TEXTS]


@promise("chat:template:named")
@pytest.mark.parametrize(
    ("given", "plain", "tools"),
    [
        ({"config": "one"}, "one", "one"),
        ({"config": NAMED}, "plain", "tools"),
        ({"config": NAMED[1:]}, "plain", "plain"),
        ({"config": {"default": "plain", "tool_use": "tools"}}, "plain", "tools"),
        ({"legacy": NAMED}, "plain", "tools"),
        ({"config": "old", "legacy": "new"}, "new", "new"),
        ({"config": NAMED, "main": "file"}, "file", "file"),
        ({"config": "old", "legacy": "old", "main": "file", "tool_use": "tools file"}, "file", "tools file"),
        ({"config": "plain", "tool_use": "tools file"}, "plain", "tools file"),
    ],
)
def test_of_several_templates_the_one_for_tools_is_taken_with_tools(
    tmp_path: Path, given: dict[str, Any], plain: str, tools: str
) -> None:
    found = template_files.read(folder(tmp_path, **given))
    assert found.chosen(with_tools=False).render([], {}) == plain
    assert found.chosen(with_tools=True).render([], {}) == tools


def test_templates_without_one_that_is_called_default_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnusable, match="rag, tool_use"):
        template_files.read(folder(tmp_path, NAMED[:2]))
    with pytest.raises(CheckpointUnusable, match="no chat template"):
        template_files.read(folder(tmp_path))
