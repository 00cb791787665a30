"""Grammars, tried: each at its start, or what is at fault, and hints without that. Over llguidance."""

import re
import time
from collections.abc import Iterator, Sequence

import msgspec
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from engines.runner.generation.grammar.constraints import (
    ANY_OBJECT,
    Part,
    Placed,
    constraint_refused,
    styled,
    weaker,
)
from engines.runner.generation.grammar.loosening import without
from engines.runner.generation.grammar.schemas import DEFINITIONS, KEPT, SchemaFault, json_text, places, schema_refused
from engines.types.common import Json

# The rows of objects with many optional properties are long; 250,000 states of a lexer would be half a gigabyte.
LIMITS = LLParserLimits(max_items_in_row=8_000, max_lexer_states=50_000, verbose_errors=False)
MAX_SECONDS = 2  # for all patterns of a schema
MAX_EXPLAINED = 300  # parts of a schema that are tried to find the one at fault
REASONS = (  # what llguidance says against a grammar, as a pattern, and what we say
    (r"Unable to determine if regex|too (?:large|big|complex|many)|limit|row has", "it is too complex"),
    (r"Unsatisfiable|InternalError|NoExtension", "nothing can satisfy it"),
    (r"oneOf constraints", "oneOf is supported only where its options plainly exclude each other; use anyOf"),
    (r"look-?around", "looking around (lookahead, lookbehind, borders of words and lines) isn't supported"),
    (r"backreferences", "back references aren't supported"),
)


class Found(msgspec.Struct, frozen=True):
    """What is at fault; `place` is the schema's among all, None if it isn't one alone."""

    place: int | None
    fault: SchemaFault

    @property
    def as_a_whole(self) -> "Found":
        return Found(self.place, SchemaFault("", self.fault.reason))


def tried(tokenizer: LLTokenizer, parts: Sequence[Part], schemas: Sequence[Placed]) -> LLMatcher | list[Found]:
    """A matcher at its start, or what is at fault, once a schema at most."""
    matcher = _started(tokenizer, parts)
    if isinstance(matcher, str):
        return list(_explained(tokenizer, schemas)) or [Found(None, SchemaFault("", reason_of(matcher)))]
    complex = _complex_pattern(tokenizer, schemas)
    return matcher if complex is None else [complex]


def weakened(tokenizer: LLTokenizer, schemas: Sequence[Placed], found: Sequence[Found], at: str) -> list[Placed]:
    """The schemas without what is at fault. Raises `InvalidRequest` where that isn't a hint."""
    changed = list(schemas)
    for one in found:
        place, placed = _weaker(tokenizer, schemas, one, at)
        changed[place] = placed
    return changed


def _weaker(tokenizer: LLTokenizer, schemas: Sequence[Placed], found: Found, at: str) -> tuple[int, Placed]:
    """Where no schema alone is at fault, it is too much in all, and the longest hint is any object."""
    place, fault = found.place, found.fault
    if place is None:
        hints = [number for number, placed in enumerate(schemas) if placed.hint and placed.schema != ANY_OBJECT]
        if not hints:
            raise constraint_refused(at, f"can't be enforced: {fault.reason}")
        place = max(hints, key=lambda number: len(json_text(schemas[number].schema)))
    elif not schemas[place].hint or schemas[place].schema == ANY_OBJECT:
        raise schema_refused(schemas[place].at, fault)
    else:
        fault = _blamed(tokenizer, schemas[place].schema, fault)
    return place, weaker(schemas[place], fault)


def _blamed(tokenizer: LLTokenizer, schema: Json, fault: SchemaFault) -> SchemaFault:
    """The keyword without which the part at fault is none, if there is one: less is left out then. The type is last."""
    part = dict([("", schema), *places(schema, "")]).get(fault.path)
    definitions: Json = {name: schema[name] for name in DEFINITIONS if name in schema}
    if not isinstance(part, dict):
        return fault
    for keyword in sorted((keyword for keyword in part if keyword in KEPT - DEFINITIONS), key="type".__eq__):
        if _fault(tokenizer, {**without(part, f"/{keyword}"), **definitions}) is None:
            return SchemaFault(f"{fault.path}/{keyword}", fault.reason)
    return fault


def _started(tokenizer: LLTokenizer, parts: Sequence[Part]) -> LLMatcher | str:
    """A matcher at its start, or what llguidance has against the grammar."""
    matcher = LLMatcher(tokenizer, json_text({"grammars": parts}), log_level=0, limits=LIMITS)
    if matcher.is_error():
        return matcher.get_error()
    if warnings := matcher.get_grammar_warnings():
        return warnings[0]
    matcher.compute_bitmask()  # builds most of the lexer, and finds what is too complex to begin with
    if matcher.is_error():
        return matcher.get_error()
    return "Unsatisfiable" if matcher.is_stopped() and not matcher.is_accepting() else matcher


def _explained(tokenizer: LLTokenizer, schemas: Sequence[Placed]) -> Iterator[Found]:
    """The innermost part that fails by itself of each schema that does."""
    for number, placed in enumerate(schemas):
        fault = _fault(tokenizer, placed.schema)
        if fault is None:
            continue
        yield Found(number, _innermost(tokenizer, placed.schema) or SchemaFault("", reason_of(fault)))


def _innermost(tokenizer: LLTokenizer, schema: Json) -> SchemaFault | None:
    definitions: Json = {name: schema[name] for name in DEFINITIONS if name in schema}
    for path, part in sorted(places(schema, ""), key=_by_depth)[:MAX_EXPLAINED]:
        reason = _fault(tokenizer, {**part, **definitions}) if isinstance(part, dict) else None
        if reason is not None and "does not exist" not in reason:
            return SchemaFault(path, reason_of(reason))
    return None


def _by_depth(place: tuple[str, object]) -> tuple[int, bool]:
    """The inner ones first, and what a reference names before the reference."""
    path, part = place
    return -path.count("/"), isinstance(part, dict) and "$ref" in part


def _fault(tokenizer: LLTokenizer, schema: Json) -> str | None:
    matcher = _started(tokenizer, [{"json_schema": styled(schema)}])
    return matcher if isinstance(matcher, str) else None


def _complex_pattern(tokenizer: LLTokenizer, schemas: Sequence[Placed]) -> Found | None:
    """A pattern that is too complex to follow, which else would show only once a text begins."""
    until = time.monotonic() + MAX_SECONDS
    for number, placed in enumerate(schemas):
        for path, part in [("", placed.schema), *places(placed.schema, "")]:
            if not isinstance(part, dict) or "pattern" not in part:
                continue
            text = {keyword: part[keyword] for keyword in ("pattern", "minLength", "maxLength") if keyword in part}
            matcher = _started(tokenizer, [{"json_schema": {"type": "string", **text}}])
            if isinstance(matcher, str):
                continue  # so it can't be chosen, for the whole was accepted
            matcher.consume_tokens(tokenizer.tokenize_str('"'))
            matcher.compute_bitmask()
            if matcher.is_error() or time.monotonic() > until:
                return Found(number, SchemaFault(f"{path}/pattern", "it is too complex"))
    return None


def reason_of(text: str) -> str:
    """What llguidance has against a grammar, in words of ours."""
    for pattern, words in REASONS:
        if match := re.search(pattern, text, re.DOTALL):
            return match.expand(words)
    line = text.strip().splitlines()[0] if text.strip() else "it isn't understood"
    return line.split("; following special tokens")[0].rstrip(".")[:300]
