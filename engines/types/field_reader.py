"""Reading a JSON object's fields into native values, with errors that name the field. Pure."""

import re
from collections.abc import Sequence
from typing import Any, TypeVar

from engines.types import json_border
from engines.types.audio import Channels
from engines.types.errors import InvalidRequest

Json = dict[str, Any]
T = TypeVar("T")

LONGEST = 2**63  # what the wire to the runners carries


def decode_object(body: bytes) -> Json:
    """Raises `InvalidRequest` when the body is no JSON object, or holds what the border refuses (`json_border`)."""
    value = json_border.decode(body)
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return value


MOST_COUNTED = 10_000  # tracks or channels


def channels(value: object) -> Channels:
    """What a field `channels` says, `mix` if it is None. Whether there is such a channel, the file will say."""
    text = value.strip().lower() if isinstance(value, str) else value
    if text is None or text == "mix":
        return "mix"
    if text == "separate":
        return "separate"
    number = int(text) if isinstance(text, str) and re.fullmatch(r"-?[0-9]{1,4}", text) else text
    if isinstance(number, int) and not isinstance(number, bool) and abs(number) <= MOST_COUNTED:
        return number
    message = "channels must be mix, separate, or the number of one channel, counted from 1."
    raise InvalidRequest(message, param="channels")


class FieldReader:
    """One object's fields; `null` means "not given". `at` is where it stands in the body."""

    def __init__(self, fields: Json, at: str = "") -> None:
        self._fields = {name: value for name, value in fields.items() if value is not None}
        self._at = at

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    @property
    def names(self) -> set[str]:
        return set(self._fields)

    def place(self, name: str) -> str:
        return f"{self._at}.{name}" if self._at else name

    def error(self, name: str, wanted: str) -> InvalidRequest:
        place = self.place(name)
        return InvalidRequest(f"{place} must be {wanted}.", param=place)

    def raw(self, name: str) -> Any:
        return self._fields.get(name)

    def number(self, name: str, default: float, low: float, high: float, *, above: bool = False) -> float:
        """From `low` (`above`: and not itself) to `high`."""
        value = self._fields.get(name, default)
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not low <= value <= high or (above and value == low):
            raise self.error(name, f"a number {'above' if above else 'from'} {low:g} to {high:g}")
        return float(value)

    def whole(self, name: str, default: T, low: int, high: int = 2 * LONGEST - 1) -> int | T:
        if name not in self._fields:
            return default
        value = self._fields[name]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            bound = f"from {low} to {high}" if high < LONGEST else f"from {low}" if low > -LONGEST else "of 64 bits"
            raise self.error(name, f"a whole number {bound}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self._fields.get(name, default)
        if not isinstance(value, bool):
            raise self.error(name, "true or false")
        return value

    def text(self, name: str, default: T) -> str | T:
        if name not in self._fields:
            return default
        value = self._fields[name]
        if not isinstance(value, str):
            raise self.error(name, "a string")
        return value

    def one_of(self, name: str, values: Sequence[str], default: T) -> str | T:
        if name not in self._fields:
            return default
        if self._fields[name] not in values:
            raise self.error(name, f"one of {', '.join(values)}")
        return str(self._fields[name])

    def object(self, name: str) -> "FieldReader":
        """An empty one where it isn't given."""
        value = self._fields.get(name, {})
        if not isinstance(value, dict):
            raise self.error(name, "an object")
        return FieldReader(value, self.place(name))

    def items(self, name: str) -> list[Any]:
        value = self._fields.get(name, [])
        if not isinstance(value, list):
            raise self.error(name, "a list")
        return value

    def objects(self, name: str) -> "list[FieldReader]":
        """A list of objects, each with its place."""
        found = []
        for index, value in enumerate(self.items(name)):
            at = f"{self.place(name)}[{index}]"
            if not isinstance(value, dict):
                raise InvalidRequest(f"{at} must be an object.", param=at)
            found.append(FieldReader(value, at))
        return found
