"""A piece's sound, and what is to be thought of it: by its length, and by who heard it. Pure."""

from collections.abc import Sequence

import msgspec

from engines.synthesis.duration_check import Verdict
from engines.synthesis.recall import Recall, joined
from engines.types.audio import VOICE_RATE
from engines.types.common import Usage

# Shares of a text. Listeners write some words otherwise; a model that skips words skips many.
LEAST_HEARD, MOST_EXTRA = 0.8, 0.75
SURELY_HEARD, LITTLE_EXTRA = 0.9, 0.3
SHOWN, SHOWN_MISSING = 40, 80  # characters of a piece, and of what is missing of it, in what is said of it

_WRONG: dict[Verdict, str] = {
    "silent": "nothing is heard of it",
    "short": "its sound is too short to be all of it",
    "long": "its sound is too long to be it alone",
    "cut": "its sound was cut off, for it didn't end",
    "partial": "words of it weren't heard",
}
# What is better than what, of tries that all went wrong.
_ORDER: tuple[Verdict, ...] = ("whole", "long", "partial", "short", "cut", "silent")


class Made(msgspec.Struct, frozen=True):
    """`sound` is float32; `share` of the text was heard in it, as far as anybody listened, and `missing` are words that
    were not."""

    sound: bytes
    level: float
    verdict: Verdict
    usage: Usage
    share: float = 1.0
    missing: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return len(self.sound) / 4 / VOICE_RATE

    @property
    def rank(self) -> tuple[int, float, int]:
        """Smaller is better: of those that are too short the longest, of those that are too long the shortest."""
        size = len(self.sound)
        return _ORDER.index(self.verdict), -self.share, -size if self.verdict in ("short", "silent") else size

    def heard(self, recall: Recall | None) -> "Made":
        """As it is to be judged by what was heard of it, None: nothing that tells anything."""
        if recall is None:
            return self
        if self.verdict != "whole":
            fine = recall.share >= SURELY_HEARD and recall.extra <= LITTLE_EXTRA
            return msgspec.structs.replace(self, verdict="whole" if fine else self.verdict)
        verdict: Verdict = "partial" if recall.share < LEAST_HEARD else "long" if recall.extra > MOST_EXTRA else "whole"
        missing = recall.missing if verdict == "partial" else ()
        return msgspec.structs.replace(self, verdict=verdict, share=recall.share, missing=missing)

    def told(self, text: str, number: int, count: int) -> str:
        """What is wrong with it, for who asked: `number` of `count` pieces, from 0."""
        shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
        missing = f": {joined(self.missing, SHOWN_MISSING)!r}" if self.missing else ""
        place = f"Part {number + 1} of {count} ({shown!r})"
        return f"{place} is not spoken as it stands: {_WRONG[self.verdict]}{missing}."


def is_enough(tries: Sequence[Made], most: int) -> bool:
    """Whether no further try is made: one is whole, or there were so many; of those that miss words alone, two."""
    if not tries:
        return False
    partial = sum(made.verdict == "partial" for made in tries)
    return tries[-1].verdict == "whole" or len(tries) >= most or partial > 1
