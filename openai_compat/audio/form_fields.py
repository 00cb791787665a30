"""Fields of a multipart form → those of a JSON object, so that one reader and one table serve both. Pure."""

import re
from collections.abc import Mapping, Set
from typing import Any, Literal

import msgspec

from engines.types.errors import InvalidRequest
from engines.types.field_reader import FieldReader, Json
from http_server.multipart import Form
from openai_compat.chat.table import Table

Kind = Literal["number", "flag", "list"]

_BRACKETS = re.compile(r"([^\[]+)\[(.*)\]", re.DOTALL)
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


class CheckedForm(msgspec.Struct, frozen=True):
    """A form's fields, and the names in no table."""

    fields: FieldReader
    ignored: tuple[str, ...]


def check(form: Form, table: Table, kinds: Mapping[str, Kind], files: Set[str]) -> CheckedForm:
    """`kinds` are of fields that aren't texts, `files` those that are files.

    As clients write them: `names[]` is a list, and so is a name of that kind that is repeated; `name[key]` is an
    object; an empty text means "not given". Raises `InvalidRequest` or `UnsupportedField`, naming the field.
    """
    for name in form.strays:
        if name in table.acts:
            raise InvalidRequest(f"{name} must be text, not a file.", param=name)
    fields = FieldReader(_typed(form.texts, kinds))
    ignored = table.check(fields)
    for name in sorted(fields.names & files):
        raise InvalidRequest(f"{name} must be a file.", param=name)
    return CheckedForm(fields, tuple(sorted({*ignored, *form.strays})))


def _typed(texts: Mapping[str, list[str]], kinds: Mapping[str, Kind]) -> Json:
    fields: Json = {}
    for written, values in texts.items():
        given = [value for value in values if value]
        found = _BRACKETS.fullmatch(written)
        name, key = found.groups() if found else (written, None)
        if not given:
            continue
        if kinds.get(name) == "list" or key == "":
            before = fields.get(name, [])
            fields[name] = [*(before if isinstance(before, list) else [before]), *given]
        elif len(given) > 1 or (name in fields and (key is None or not isinstance(fields[name], dict))):
            raise InvalidRequest(f"{name} is given more than once: give it once.", param=name)
        elif key is not None:
            fields[name] = {**fields.get(name, {}), key: given[0]}
        else:
            fields[name] = _value(given[0], kinds.get(name))
    return fields


def _value(text: str, kind: Kind | None) -> Any:
    """What a text stands for; where it stands for nothing of the kind, it stays, and is refused where it is read."""
    if kind == "flag":
        return _FLAGS.get(text.strip().lower(), text)
    if kind == "number" and re.fullmatch(r"\s*[+-]?[0-9]{1,20}\s*", text):
        return int(text)
    if kind == "number" and re.fullmatch(r"\s*[+-]?[0-9]*\.?[0-9]*(e[+-]?[0-9]{1,3})?\s*", text, re.IGNORECASE):
        try:
            return float(text)
        except ValueError:
            return text
    return text
