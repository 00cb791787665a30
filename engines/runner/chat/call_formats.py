"""The markups in which models write calls, one entry a family: how a block begins and ends, and what reads it. Pure.

To add a family: a block (`BlockParser`), an entry in `FORMATS` with the words by which its template is known, its
grammar in `engines.runner.generation.grammar.markups`, and its cases in
`tests/engines/runner/chat/test_call_formats.py`.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from engines.runner.chat.call_parser import CallBlock
from engines.runner.chat.mistral_calls import MistralBlock
from engines.runner.chat.xml_calls import XmlBlock
from engines.runner.generation.grammar.markups import Markup
from engines.types.common import Json

Schemas = Mapping[str, Json]  # the parameters of each declared tool


class Call(Protocol):
    """One call while it is read."""

    name: str
    complete: bool

    @property
    def ready(self) -> bool:
        """Whether there is something to take."""
        ...

    def take(self) -> str:
        """The arguments' next piece, as JSON; the last bracket only when the call is complete."""
        ...

    def close(self) -> bool:
        """The model says that the call is over: add what it forgot. False: that makes it no call."""
        ...


class BlockParser(Protocol):
    """What stands between the marks of a call, read character by character; see `CallBlock`."""

    lead: str
    raw: list[str]

    @property
    def call(self) -> Call | None: ...

    @property
    def in_string(self) -> bool: ...

    @property
    def behind(self) -> bool: ...

    def feed(self, c: str) -> bool: ...

    def completed(self) -> None: ...


class Format(msgspec.Struct, frozen=True):
    """A family's markup.

    `openings` begin a block, the usual one first; those of `inner` are part of what the block reads. `closing` ends it
    ("": the answer's end does). With `bare` an object may be a call without any mark. `known_by` are words that all
    stand in the templates of the family.
    """

    markup: Markup
    openings: tuple[str, ...]
    closing: str
    block: Callable[[Schemas, str, str], BlockParser]
    inner: tuple[str, ...] = ()
    bare: bool = False
    known_by: tuple[str, ...] = ()

    def begun(self, opening: str, schemas: Schemas, lead: str) -> BlockParser:
        """A block behind its opening mark."""
        if opening not in self.inner:
            return self.block(schemas, opening, lead)
        block = self.block(schemas, "", lead)
        for c in opening:
            block.feed(c)
        return block


def _json_block(schemas: Schemas, opening: str, lead: str) -> BlockParser:
    return CallBlock(frozenset(schemas), opening, lead)


HERMES = Format("hermes", ("<tool_call>",), "</tool_call>", _json_block, bare=True)
QWEN3_CODER = Format(
    "qwen3_coder",
    ("<tool_call>", "<function="),
    "</tool_call>",
    XmlBlock,
    inner=("<function=",),
    known_by=("<function=", "<parameter="),
)
MISTRAL_ID = Format("mistral_id", ("[TOOL_CALLS]",), "", MistralBlock, known_by=("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"))
MISTRAL_ARGS = Format("mistral_args", ("[TOOL_CALLS]",), "", MistralBlock, known_by=("[TOOL_CALLS]", "[ARGS]"))
MISTRAL = Format("mistral", ("[TOOL_CALLS]",), "", MistralBlock, known_by=("[TOOL_CALLS]",))
FORMATS = (QWEN3_CODER, MISTRAL_ID, MISTRAL_ARGS, MISTRAL)


def of_template(text: str, *, knows_tools: bool) -> Format:
    """The format that a template teaches; JSON in tags where it teaches none that is known."""
    if knows_tools:
        for format in FORMATS:
            if all(word in text for word in format.known_by):
                return format
    return HERMES


def by_markup(markup: Markup, *, strict: bool = False) -> Format:
    """With strict tools the whole markup is written by a grammar, from its usual opening on."""
    format = next((format for format in FORMATS if format.markup == markup), HERMES)
    return msgspec.structs.replace(format, openings=format.openings[:1]) if strict else format
