"""The Jinja environment that checkpoints' templates expect, which is that of transformers; what they do is bounded."""

import datetime
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import BuiltinMethodType
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MAX_CHARACTERS = 64 * 1024 * 1024  # of any text that a template makes
MAX_NUMBER = 10_000_000  # of any width, count or repetition that it asks for
MAX_PARTS = 1_000_000  # of a value that is written as JSON, a part that stands in it twice counted twice
MAX_SLOW = 64 * 1024  # characters for filters that take long for each
_SLOW = frozenset("pprint striptags title urlize wordcount wordwrap xmlattr".split())
# Prompts' text is broken at characters of the private use area: they stand for themselves in ASCII JSON too.
_WIDE = re.compile(r"%[-+ #0]*(?:\d{8,}|\d*\*|\d*\.(?:\d{8,}|\*))|\{[^{}]*:(?:[^{}]*\d{8,}|[^{}]*\{)")
_ESCAPED = re.compile(r"[^\x00-\x7f\ue000-\uf8ff]")


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox that calls `tick` at every pass of a loop and every call of a macro, and makes no huge texts."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self, tick: Callable[[], None]) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        self.tick = tick
        self.finalize = _shown
        self.filters["tojson"] = to_json
        for name in self.filters:
            self.filters[name] = _bounded_filter(name, self.filters[name])
        self.globals |= {
            "raise_exception": _raise,
            "strftime_now": _strftime_now,
            "dict": _Dict(),
            "namespace": _Namespace,
        }

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        node: nodes.For | nodes.Macro | nodes.CallBlock
        for node in tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock)):  # type: ignore[assignment]
            tick = nodes.Call(nodes.EnvironmentAttribute("tick"), [], [], None, None)
            node.body.insert(0, nodes.ExprStmt(tick).set_lineno(node.lineno))
        for concat in list(tree.find_all(nodes.Concat)):
            checked = nodes.EnvironmentAttribute("checked_text")
            concat.nodes = [nodes.Call(checked, [part], [], None, None, lineno=concat.lineno) for part in concat.nodes]
        return tree

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        sizes = [len(side) for side in (left, right) if isinstance(side, str | list | tuple)]
        numbers = [abs(side) for side in (left, right) if isinstance(side, int)]
        if operator == "+" and sum(sizes) > MAX_CHARACTERS:
            raise _too_much()
        if operator == "*" and sizes and numbers and sizes[0] * numbers[0] > MAX_CHARACTERS:
            raise _too_much()
        if operator == "**" and numbers and max(numbers) > 1000:
            raise _too_much()
        if operator == "%" and isinstance(left, str):
            _check_layout(left)
            _check_parts(right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(__obj, BuiltinMethodType) and isinstance(__obj.__self__, str):
            _check_numbers([*args, *kwargs.values()])
            _check_product(__obj.__name__, [__obj.__self__, *args, *kwargs.values()])
        return __self.checked(super().call(__context, __obj, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Any:
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            _check_layout(value.__self__)
        return wrapped

    def checked(self, value: Any) -> Any:
        """The value, unless it is a text too long to go on with."""
        if isinstance(value, str) and len(value) > MAX_CHARACTERS:
            raise _too_much()
        return value

    def checked_text(self, value: Any) -> Any:
        """A part of what `~` joins: a fourth of the bound, because the whole is checked only where it is used."""
        if isinstance(value, str) and len(value) > MAX_CHARACTERS // 4:
            raise _too_much()
        return value


class _Generation(Extension):
    """`{% generation %}` marks what a model is trained on; in a prompt it is what stands in it."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

    def _same(self, caller: Macro) -> str:
        return str(caller())


class _Dict:
    """`dict` in a template: to make one, and nothing else of the type."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(Namespace):
    """`namespace` in a template, without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        given = dict(*args[1:], **kwargs)
        for name in given:
            _check_name(name)
        Namespace.__init__(args[0], given)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers' filter, but for private characters, which are never escaped."""
    _check_numbers([indent])
    _check_parts(value)
    pair = (separators[0], separators[1]) if separators else None
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=pair, sort_keys=sort_keys)
    return _ESCAPED.sub(lambda match: json.dumps(match[0])[1:-1], text) if ensure_ascii else text


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(layout: str) -> str:
    return datetime.datetime.now().strftime(layout)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"A namespace can't hold {name!r}: no name there begins with _.")


def _bounded_filter(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, unless it makes too much."""

    behind = int(hasattr(work, "jinja_pass_arg"))  # what Jinja gives first: context or environment

    def bounded(*args: Any, **kwargs: Any) -> Any:
        given = [*args[behind:], *kwargs.values()]
        if name in ("center", "indent"):
            _check_numbers(given)
        if name == "format":
            _check_layout(args[0])
        if name in _SLOW and sum(len(one) for one in given if isinstance(one, str)) > MAX_SLOW:
            raise _too_much()
        if name == "string":
            _check_parts(given)
        _check_product(name, given)
        made = work(*args, **kwargs)
        if isinstance(made, str) and len(made) > MAX_CHARACTERS:
            raise _too_much()
        return made

    # What Jinja reads from the function: which of context and environment it is to be given first.
    bounded.__dict__.update(getattr(work, "__dict__", {}))
    return bounded


def _check_numbers(values: Iterable[object]) -> None:
    if any(isinstance(value, int) and abs(value) > MAX_NUMBER for value in values):
        raise _too_much()


def _check_product(name: str, given: Sequence[Any]) -> None:
    """Of a method or filter that multiplies: its text and what it is given make no huge text."""
    match name, given:
        case "replace", [str(text), str(old), str(new), *_]:
            size = text.count(old) * len(new)
        case "indent", [str(text), int() | str() as width, *_]:
            size = (text.count("\n") + 1) * (len(width) if isinstance(width, str) else width)
        case "expandtabs", [str(text), int(width)]:
            size = text.count("\t") * width
        case "join", [str(between), list() | tuple() as parts] | [list() | tuple() as parts, str(between), *_]:
            size = len(between) * len(parts) + sum(len(part) for part in parts if isinstance(part, str))
        case "translate", [str(text), dict(table)]:
            size = len(text) * max((len(new) for new in table.values() if isinstance(new, str)), default=0)
        case _:
            return
    if size > MAX_CHARACTERS:
        raise _too_much()


def _check_parts(value: object) -> None:
    """Of a value that is to be written: lists that hold one another twice double at every floor."""
    left, parts = [value], 0
    while left:
        one = left.pop()
        parts += 1
        if isinstance(one, Mapping):
            left.extend(one.values())
        elif isinstance(one, list | tuple):
            left.extend(one)
        if parts + len(left) > MAX_PARTS:
            raise _too_much()


def _shown(value: Any) -> Any:
    """What a template is about to write, unless it is huge: what it wrote into a block it may write again."""
    if isinstance(value, str) and len(value) > MAX_CHARACTERS:
        raise _too_much()
    if isinstance(value, Mapping | list | tuple):
        _check_parts(value)
    return value


def _check_layout(text: object) -> None:
    """Of a text that is formatted: no width of eight digits, and none that comes from elsewhere."""
    if isinstance(text, str) and _WIDE.search(text):
        raise _too_much()


def _too_much() -> jinja2.TemplateError:
    return jinja2.TemplateError("it makes a text or number too large to be meant")
