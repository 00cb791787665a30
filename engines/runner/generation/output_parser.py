"""What reads an answer while it is written: the words in which it tells the loop where the model is."""

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from engines.types.chat import Delta

Phase = Literal["start", "thinking", "answer", "call"]


class End(msgspec.Struct, frozen=True):
    """What is known when no more text comes: deltas held back, and the calls that were cut or broke off.

    `unfinished_calls` are the numbers of those that were shown in part, `unfinished_text` is the raw text of all.
    """

    deltas: tuple[Delta, ...]
    unfinished_calls: tuple[int, ...]
    unfinished_text: str
    called: bool


class OutputParser(Protocol):
    """What reads an answer: text in any pieces → what is to be shown."""

    @property
    def phase(self) -> Phase: ...

    @property
    def ended(self) -> bool:
        """Nothing more that is shown can follow."""
        ...

    def feed(self, text: str) -> Sequence[Delta]: ...

    def finish(self, *, cut: bool) -> End: ...
