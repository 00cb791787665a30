"""What the answer must be, as OpenAI, vLLM, SGLang and llama.cpp spell it → one constraint. Pure."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from engines.types import json_border
from engines.types.chat import Constraint
from engines.types.errors import InvalidRequest, UnsupportedField
from engines.types.field_reader import FieldReader

# Of vLLM's `structured_outputs`: they would change what may be written.
NOT_BUILT: Mapping[str, tuple[object, ...]] = {
    "structural_tag": (),
    "whitespace_pattern": (),
    "disable_additional_properties": (False,),
}

Read = Callable[[FieldReader, str], Constraint | None]


def constraint(fields: FieldReader) -> Constraint | None:
    """The one thing that the answer must be. Raises `InvalidRequest` where spellings contradict each other."""
    found = list(_found(fields))
    for other in found[1:]:
        if (other.kind, other.value) != (found[0].kind, found[0].value):
            names = " and ".join(one.at.split(".")[0] for one in (found[0], other))
            raise InvalidRequest(f"{names} can't be given together.", param=other.at)
    return found[0] if found else None


def _found(fields: FieldReader) -> Iterator[Constraint]:
    if (made := _response_format(fields)) is not None:
        yield made
    for name, read in _SPELLINGS.items():
        if name in fields and (made := read(fields, name)) is not None:
            yield made
    within = fields.object("structured_outputs")
    for name, neutral in NOT_BUILT.items():
        if name in within and within.raw(name) not in neutral:
            place = within.place(name)
            raise UnsupportedField(f"{place} isn't supported by this server; leave it out.", param=place)
    for name, read in _STRUCTURED.items():
        if name in within and (made := read(within, name)) is not None:
            yield made


def _response_format(fields: FieldReader) -> Constraint | None:
    format = fields.object("response_format")
    if "response_format" not in fields:
        return None
    kind = format.one_of("type", ("text", "json_object", "json_schema"), None)
    if kind is None:
        raise format.error("type", "one of text, json_object, json_schema")
    schemas = [name for name in ("json_schema", "schema") if name in format]  # the second as llama.cpp has it
    if kind == "text" and schemas:
        raise format.error(schemas[0], "left out where the type is text")
    if len(schemas) > 1:
        raise format.error("schema", "left out where json_schema is given")
    if not schemas and kind != "json_schema":
        return None if kind == "text" else Constraint("json_object")
    holder = format if schemas == ["schema"] else _named(format.object("json_schema"))
    schema = holder.raw("schema")
    if not isinstance(schema, dict | bool):
        raise holder.error("schema", "a JSON schema")
    return Constraint("json_schema", schema, holder.place("schema"))


def _named(holder: FieldReader) -> FieldReader:
    """OpenAI's way to hold a schema. A schema is always obeyed, `strict` or not."""
    holder.text("name", "")
    holder.text("description", "")
    holder.flag("strict", False)
    return holder


def _schema(fields: FieldReader, name: str) -> Constraint:
    """An object, or its JSON as a text."""
    value: Any = fields.raw(name)
    if isinstance(value, str):
        value = json_border.decode(value, fields.place(name))
    if not isinstance(value, dict | bool):
        raise fields.error(name, "a JSON schema, as an object or as text")
    return Constraint("json_schema", value, fields.place(name))


def _object(fields: FieldReader, name: str) -> Constraint | None:
    return Constraint("json_object", at=fields.place(name)) if fields.flag(name, False) else None


def _regex(fields: FieldReader, name: str) -> Constraint:
    return Constraint("regex", fields.text(name, ""), fields.place(name))


def _grammar(fields: FieldReader, name: str) -> Constraint:
    return Constraint("grammar", fields.text(name, ""), fields.place(name))


def _ebnf(fields: FieldReader, name: str) -> Constraint:
    return Constraint("ebnf", fields.text(name, ""), fields.place(name))


def _choice(fields: FieldReader, name: str) -> Constraint:
    texts = fields.items(name)
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise fields.error(name, "a list of at least one text")
    return Constraint("choice", tuple(texts), fields.place(name))


_STRUCTURED: Mapping[str, Read] = {
    "json": _schema,
    "regex": _regex,
    "choice": _choice,
    "grammar": _grammar,
    "json_object": _object,
}
_SPELLINGS: Mapping[str, Read] = {
    "grammar": _grammar,
    "regex": _regex,
    "choice": _choice,
    "ebnf": _ebnf,
    "json_schema": _schema,
    "guided_json": _schema,
    "guided_regex": _regex,
    "guided_choice": _choice,
    "guided_grammar": _grammar,
}
