"""What an answer must be, as grammars of llguidance: a constrained document, calls of tools, or either. Pure.

A JSON document is written on one line, with at most one blank after each comma and colon, so that a weak model can't
fill its answer with white space; keys come in the schema's order.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from llguidance import regex_to_lark

from engines.runner.generation.grammar.closing import closed
from engines.runner.generation.grammar.ebnf import EbnfFault, is_ebnf, lark_of
from engines.runner.generation.grammar.loosening import loosened, without
from engines.runner.generation.grammar.markups import Callee, Markup, Shape, call_rules, unenforced
from engines.runner.generation.grammar.patterns import regex_fault
from engines.runner.generation.grammar.schemas import (
    MAX_SCHEMA_BYTES,
    SchemaFault,
    cut,
    enforced,
    json_text,
    schema_refused,
)
from engines.types.chat import Constraint, Tool, ToolChoice
from engines.types.common import Adjusted, Json
from engines.types.errors import InvalidRequest

MAX_GRAMMAR_BYTES = 64 * 1024
MAX_CHOICES = 1000
# Without \u escapes: llguidance lets a key escape its name and so evade its schema; characters stand as they are.
STYLE = {
    "whitespace_flexible": False,
    "item_separator": ", ?",
    "key_separator": ": ?",
    "json_allowed_escapes": 'nrbtf\\"',
}
ANY_OBJECT: Json = {"type": "object"}

Numbered = tuple[int, Tool]  # a tool with its place in the request
Part = dict[str, Any]  # one of llguidance's grammars, as its JSON has it


class Placed(msgspec.Struct, frozen=True):
    """A schema with its place in the request, and what is left out of it; of a `hint`, anything may be."""

    at: str
    schema: Json
    hint: bool = False
    left_out: tuple[SchemaFault, ...] = ()


class Wanted(msgspec.Struct, frozen=True):
    """What the model may write: the document if there is one, or calls of the tools if there are any.

    With `all_strict` arguments follow the schemas of all tools, else of strict ones alone; others are any object. With
    `body_only` it is what follows the opening mark of one call, up to its end, and then anything.
    """

    document: Constraint | None
    tools: list[Numbered]
    all_strict: bool = False
    parallel: bool = True
    body_only: bool = False
    markup: Markup = "hermes"

    @property
    def at(self) -> str:
        """The field of the request that asks for it, for errors."""
        return "tools" if self.document is None else self.document.at


def wanted_answer(constraint: Constraint | None, tools: Sequence[Tool], choice: ToolChoice) -> Wanted | None:
    """What the answer must be; None if it is free. Raises `InvalidRequest` for a document where only calls may be."""
    must_call = choice.mode in ("required", "named")
    if must_call and constraint is not None:
        at = constraint.at.split(".")[0]
        message = f"{at} can't act: tool_choice makes the answer a call of a tool. Leave one of them out."
        raise InvalidRequest(message, param=at)
    if not must_call and constraint is None:
        return None
    callees = _callable(tools, choice) if must_call or choice.mode == "auto" else []
    return Wanted(constraint, callees, all_strict=must_call, parallel=choice.parallel and choice.mode != "named")


def wanted_call_body(tools: Sequence[Tool], choice: ToolChoice) -> Wanted | None:
    """What a call that nobody asked for must be; None if it is free."""
    if choice.mode != "auto" or not any(tool.strict for tool in tools):
        return None
    return Wanted(None, list(enumerate(tools)), body_only=True)


def schemas_of(wanted: Wanted) -> list[Placed]:
    """The schemas that it holds to: the document's, if it is one by a schema, then those of the tools, in order.

    Raises `InvalidRequest` for what can't be enforced and isn't a hint, as far as it shows here.
    """
    found: list[Placed] = []
    document = wanted.document
    if document is not None and document.kind in ("json_object", "json_schema"):
        is_free = document.kind == "json_object"
        found.append(Placed(document.at, ANY_OBJECT if is_free else enforced(document.value, document.at)))
    return [*found, *(_arguments(number, tool, wanted) for number, tool in wanted.tools)]


def written(wanted: Wanted, schemas: Sequence[Placed], marks: Mapping[str, int]) -> list[Part]:
    """llguidance's grammars, the one to start with first. `marks` are tokens by their text."""
    documents = schemas[: len(schemas) - len(wanted.tools)]
    parts = [] if wanted.document is None else [_document(wanted.document, documents)]
    if wanted.tools:
        placed = zip(wanted.tools, schemas[len(documents) :], strict=True)
        callees = [Callee(index, tool.name, one.schema) for (index, tool), one in placed]
        shape = Shape(wanted.parallel, wanted.body_only, wanted.document is not None)
        rules = call_rules(wanted.markup, callees, shape, marks, styled)
        parts.insert(0, {"name": "main", "lark_grammar": "\n".join(rules)})
    return parts


def weaker(placed: Placed, fault: SchemaFault) -> Placed:
    """A hint without what is at fault. Nothing but an object is left of what is at fault as a whole."""
    schema = without(placed.schema, fault.path) if fault.path else {}
    return Placed(placed.at, {**schema, "type": "object"}, True, (*placed.left_out, fault))


def adjusted(schemas: Sequence[Placed]) -> tuple[Adjusted, ...]:
    """What is left out of hints, for the client."""
    return tuple(
        Adjusted(placed.at, f"{fault.path or 'the schema as a whole'} is left out ({fault.reason})")
        for placed in schemas
        for fault in placed.left_out
    )


def styled(schema: Json) -> Json:
    """A schema with the style in which its documents are written."""
    return {**schema, "x-guidance": STYLE}


def constraint_refused(at: str, fault: str) -> InvalidRequest:
    """The error for a constraint as a whole; `fault` goes on after "The constraint in …"."""
    return InvalidRequest(f"The constraint in {at} {fault}.", param=at)


def _callable(tools: Sequence[Tool], choice: ToolChoice) -> list[Numbered]:
    """The tools that may be called, with their place in the request."""
    found = [(index, tool) for index, tool in enumerate(tools) if choice.mode != "named" or tool.name == choice.name]
    if not found and choice.mode != "auto":
        wanted = f"the tool {choice.name}, which is not among them" if choice.mode == "named" else "a call"
        raise InvalidRequest(f"tool_choice asks for {wanted}: add it to tools.", param="tool_choice")
    return found


def _arguments(index: int, tool: Tool, wanted: Wanted) -> Placed:
    """Where a tool's schema stands in the request, and what is enforced of it."""
    at = f"tools[{index}].function.parameters"
    if not (wanted.all_strict or tool.strict):
        return Placed(at, ANY_OBJECT)
    if not tool.parameters:
        return Placed(at, {"type": "object", "additionalProperties": False})
    schema = tool.parameters
    faults: list[SchemaFault] = []
    if tool.strict:
        enforced(schema, at)
        for fault in unenforced(wanted.markup, schema):
            raise schema_refused(at, fault)
    else:
        schema, faults = loosened(schema)
        faults += unenforced(wanted.markup, schema)
    kinds = schema.get("type", "object")
    if kinds != "object" and not (isinstance(kinds, list) and "object" in kinds):
        fault = SchemaFault("/type", "arguments have names, so they are an object")
        if tool.strict:
            raise schema_refused(at, fault)
        return Placed(at, ANY_OBJECT, True, (*faults, fault))
    is_gone = any(not fault.path for fault in faults)
    made = cut({**schema, "type": "object"} if is_gone else {**closed(schema), "type": "object"})
    return Placed(at, made, not tool.strict, tuple(faults))


def _document(constraint: Constraint, schemas: Sequence[Placed]) -> Part:
    """The grammar of a constrained document."""
    value, at = constraint.value, constraint.at
    if schemas:
        return {"name": "answer", "json_schema": styled(schemas[0].schema)}
    lark = {"grammar": _grammar, "ebnf": _ebnf, "regex": _regex, "choice": _choice}[constraint.kind](value, at)
    return {"name": "answer", "lark_grammar": lark}


def _ebnf(value: object, at: str) -> str:
    try:
        return lark_of(_short_text(value, at))
    except EbnfFault as fault:
        raise constraint_refused(at, str(fault)) from fault


def _grammar(value: object, at: str) -> str:
    text = _short_text(value, at)
    if is_ebnf(text):
        return _ebnf(text, at)
    option = re.search(r"^\s*[?!]?[\w-]+\s*\[[^\]\n]*?\b(temperature|stop)\s*=", text, re.MULTILINE)
    if option:
        raise constraint_refused(at, f"can't be enforced: the option {option[1]} isn't supported")
    return text


def _regex(value: object, at: str) -> str:
    text = _short_text(value, at)
    if fault := regex_fault(text):
        raise constraint_refused(at, f"can't be enforced: {fault}")
    return f"start: /{regex_to_lark(text, '')}/"


def _choice(value: object, at: str) -> str:
    texts = value if isinstance(value, list | tuple) else ()
    if not 1 <= len(texts) <= MAX_CHOICES or not all(isinstance(text, str) and text for text in texts):
        raise constraint_refused(at, f"must be a list of 1 to {MAX_CHOICES} texts that aren't empty")
    if sum(len(text.encode()) for text in texts) > MAX_SCHEMA_BYTES:
        raise constraint_refused(at, f"is longer than {MAX_SCHEMA_BYTES // 1024} KB")
    return "start: " + " | ".join(json_text(text) for text in dict.fromkeys(texts))


def _short_text(value: object, at: str) -> str:
    if not isinstance(value, str) or not value:
        raise constraint_refused(at, "must be a text that isn't empty")
    if len(value.encode()) > MAX_GRAMMAR_BYTES:
        raise constraint_refused(at, f"is longer than {MAX_GRAMMAR_BYTES // 1024} KB")
    return value
