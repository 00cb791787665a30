"""What a model is to continue, as the loop takes it in: made by whoever knows the request, whatever its kind."""

from typing import Protocol

import msgspec

from engines.runner.generation.content import ContentSpan
from engines.runner.generation.grammar.compiler import Grammar
from engines.runner.generation.output_parser import OutputParser
from engines.types.chat import Sampling
from engines.types.common import Adjusted


class OutputFormat(Protocol):
    """How an answer is to be read."""

    def reader(self) -> OutputParser:
        """A new one, for one answer."""
        ...


class Thought(msgspec.Struct, frozen=True):
    """What the loop does about a thought before the answer.

    `budget` is the tokens that it may have (None: no limit). `opening` is the token that begins one (None: it takes
    several), `closing` are those that end one, `behind` those between a thought and an answer that must follow at once.
    """

    budget: int | None = None
    opening: int | None = None
    closing: tuple[int, ...] = ()
    behind: tuple[int, ...] = ()


class Prompt(msgspec.Struct, frozen=True):
    """What a model is to continue, and for how many tokens at most.

    `reply` None is plain text. `grammar` is of all that follows the thought, `call_grammar` of the inside of each call
    in an answer that is free otherwise. `echo` is the text to give back first; with `Sampling.logprobs`, with those of
    the prompt's tokens. `spans` are positions whose embeddings are those of content, as of recorded sound, in order.
    A repetition penalty finds the tokens from position `repeatable_from` on.
    `continues`: the answer goes on with a text, so that a blank at its beginning is one. `background`: other
    requests come first. `adjusted` is what acts otherwise than the request has it.
    """

    ids: tuple[int, ...]
    max_tokens: int
    sampling: Sampling
    trace: str = ""
    reply: OutputFormat | None = None
    thought: Thought = Thought()
    grammar: Grammar | None = None
    call_grammar: Grammar | None = None
    echo: str | None = None
    spans: tuple[ContentSpan, ...] = ()
    repeatable_from: int = 0
    continues: bool = False
    background: bool = False
    adjusted: tuple[Adjusted, ...] = ()

    @property
    def prompt_tokens(self) -> int:
        return len(self.ids)

    @property
    def repeatable(self) -> tuple[int, ...]:
        """The tokens that a repetition penalty finds in it."""
        return self.ids[self.repeatable_from :]
