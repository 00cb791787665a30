"""JSON from outside → native values that everything behind the border can carry. Pure.

What passes holds whole characters, numbers that a double or 64 bits can hold, and no nesting that a recursion behind
could fail at. Every front reads JSON here, and JSON inside of texts too.
"""

import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from engines.types.errors import InvalidRequest

MAX_DEPTH = 200
LEAST_INTEGER, MOST_INTEGER = -(2**63), 2**64 - 1  # what msgpack carries
MOST_DIGITS = 400  # of an integer that could be a double; Python refuses to read 4,301
SHOWN_DEPTH = 6  # of the place of what is nested too deeply

Container = dict[str, Any] | list[Any]

_HALF = re.compile("[\ud800-\udfff]")
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a whole character
    r"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.",
    re.DOTALL,
)
_TOKEN = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"|[\[\]{}]', re.DOTALL)


def decode(text: bytes | str, at: str = "") -> Any:
    """The value that `text` is. `at` is where the text stands in its request, "" for a whole body.

    An integer beyond 64 bits becomes a double, as most readers of JSON have it. Raises `InvalidRequest` with the place
    of half a character, of a number that no double holds, and of what is nested too deeply.
    """
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise _refused(text, at, error) from error
    root = {"": value}
    _settle(root, at)
    return root[""]


def check_text(value: object, at: str) -> None:
    """Raises `InvalidRequest` with the place of half a character in a value that somebody else has decoded."""
    if (place := _first(value, at, _is_half)) is not None:
        raise InvalidRequest(f"{place or 'The text'} holds half a character: send whole ones.", param=place or None)


def object_or_text(text: str) -> dict[str, Any] | str:
    """The JSON object that `text` is; the text itself where it is none."""
    try:
        value = decode(text)
    except InvalidRequest:
        return text
    return value if isinstance(value, dict) else text


def without_halves(text: str) -> str:
    """JSON text in which U+FFFD stands for every escape of half a character."""
    return _ESCAPE.sub(lambda match: "\ufffd" if match["half"] else match[0], text)


def _refused(text: bytes | str, at: str, error: Exception) -> InvalidRequest:
    """What to say of a text that isn't taken: the place, where a more patient reader finds one."""
    written = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text
    try:
        value = json.loads(written, parse_int=_number)
    except RecursionError:
        return _too_deep(_joined(at, [_field_of_depth(written)]))
    except ValueError:
        return InvalidRequest(f"{at or 'The body'} must be JSON: {error}.", param=at or None)
    if isinstance(error, RecursionError):
        return _too_deep(_joined(at, [_field_of_depth(written)]))
    if (place := _first(value, at, _is_half)) is not None:
        fault = "holds half a character, or bytes that aren't UTF-8: send whole characters"
        return InvalidRequest(f"{place or 'The body'} {fault}.", param=place or None)
    if (place := _first(value, at, _is_endless)) is not None:
        return _endless(place)
    return InvalidRequest(f"{at or 'The body'} must be JSON: {error}.", param=at or None)


def _settle(root: Container, at: str) -> None:
    """Makes doubles of integers beyond 64 bits, in place; refuses what no double holds, and what is too deep.

    The steps of a place are pairs, (steps before, last step), so that they cost nothing where all is well.
    """
    level: list[tuple[Container, Any]] = [(root, None)]
    for _ in range(MAX_DEPTH + 1):
        inner: list[tuple[Container, Any]] = []
        for outer, steps in level:
            items: Iterable[tuple[Any, Any]] = outer.items() if isinstance(outer, dict) else enumerate(outer)
            large = []
            for key, one in items:
                if isinstance(one, dict | list):
                    inner.append((one, (steps, key)))
                elif type(one) is int and not LEAST_INTEGER <= one <= MOST_INTEGER:
                    large.append(key)
            for key in large:
                outer[key] = _double(outer[key])
                if not math.isfinite(outer[key]):
                    raise _endless(_joined(at, _listed((steps, key))))
        level = inner
        if not level:
            return
    raise _too_deep(_joined(at, _listed(level[0][1])))


def _listed(steps: Any) -> list[str | int]:
    listed: list[str | int] = []
    while steps is not None:
        steps, step = steps
        listed.append(step)
    return listed[::-1]


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) < MOST_DIGITS else math.inf


def _double(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _is_endless(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _is_half(value: object) -> bool:
    return isinstance(value, str) and _HALF.search(value) is not None


def _first(value: object, at: str, is_wrong: Callable[[object], bool]) -> str | None:
    """The place of the first value, or of the object that has a key, that is wrong."""
    left: list[tuple[str, object]] = [(at, value)]
    while left:
        place, one = left.pop()
        if isinstance(one, dict):
            if any(is_wrong(key) for key in one):
                return place
            left += [(f"{place}.{key}" if place else str(key), inner) for key, inner in reversed(one.items())]
        elif isinstance(one, list):
            left += [(f"{place}[{index}]", one[index]) for index in reversed(range(len(one)))]
        elif is_wrong(one):
            return place
    return None


def _joined(at: str, steps: list[str | int]) -> str:
    for step in steps[:SHOWN_DEPTH]:
        if step != "":
            at = f"{at}[{step}]" if isinstance(step, int) else f"{at}.{step}" if at else step
    return at


def _field_of_depth(text: str) -> str:
    """The outermost object's field in which brackets are nested too deeply."""
    depth, field = 0, ""
    for match in _TOKEN.finditer(text):
        if match[1] is not None:
            field = match[1] if depth == 1 else field
        else:
            depth += 1 if match[0] in "[{" else -1
            if depth > MAX_DEPTH:
                break
    return field


def _endless(place: str) -> InvalidRequest:
    return InvalidRequest(f"{place or 'The body'} must be a number that a double holds.", param=place or None)


def _too_deep(place: str) -> InvalidRequest:
    message = f"{place or 'The body'} is nested deeper than {MAX_DEPTH} levels: make it flatter."
    return InvalidRequest(message, param=place or None)
