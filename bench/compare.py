"""This tree against another one, line by line: the median of the rounds' ratios, and its interval. Pure.

The two sides of one round met the same machine. Of n independent ratios, the interval from the k-th smallest to the
k-th largest holds the median with a probability of 1 - 2 · P(fewer than k of n coins show heads): 94 % for five rounds
and k = 1 (David and Nagaraja, Order Statistics, section 7.1). Fewer than five rounds can't reach `CONFIDENCE`: their
interval is all that was seen, and says little. So the table says how many there were.
"""

import math
import statistics
from collections.abc import Mapping, Sequence

from msgspec import Struct

WORSE_BELOW = 0.97
CONFIDENCE = 0.9
HIGHER_IS_BETTER = frozenset({"rate", "speed"})  # the last part of a figure's name

Values = Mapping[str, Mapping[str, Sequence[float]]]


class ComparedFigure(Struct, frozen=True):
    """`ratio` above 1: this tree is better. It is worse if the whole interval lies below `WORSE_BELOW`."""

    figure: str
    ratio: float
    low: float
    high: float
    rounds: int

    @property
    def is_worse(self) -> bool:
        return self.high < WORSE_BELOW


def compare(values: Values, this: str, other: str) -> list[ComparedFigure]:
    """Of every figure that both have, in the order in which they were measured."""
    lines = []
    for figure, by_name in values.items():
        if this in by_name and other in by_name:
            ours, theirs = by_name[this], by_name[other]
            if figure.rsplit("/", 1)[-1] not in HIGHER_IS_BETTER:
                ours, theirs = theirs, ours
            ratios = [one / two for one, two in zip(ours, theirs, strict=False) if one > 0 and two > 0]
            if ratios:
                lines.append(line(figure, ratios))
    return lines


def line(figure: str, ratios: Sequence[float]) -> ComparedFigure:
    ordered = sorted(ratios)
    skip = _skip(len(ordered))
    return ComparedFigure(figure, statistics.median(ordered), ordered[skip], ordered[-1 - skip], len(ordered))


def _skip(rounds: int) -> int:
    """How many of the smallest, and of the largest, lie outside the interval: as many as `CONFIDENCE` allows."""
    skip, outside = 0, 2 * 0.5**rounds
    while outside + 2 * math.comb(rounds, skip + 1) * 0.5**rounds <= 1 - CONFIDENCE:
        skip += 1
        outside += 2 * math.comb(rounds, skip) * 0.5**rounds
    return skip


def table(lines: Sequence[ComparedFigure]) -> str:
    """For people."""
    rows = [f"{'figure':46} {'ratio':>6}  interval       rounds  (above 1: this tree is better)"]
    for one in lines:
        row = f"{one.figure:46} {one.ratio:6.3f}  {one.low:5.3f} – {one.high:5.3f}  {one.rounds:>5}"
        rows.append(row + ("   WORSE" if one.is_worse else ""))
    worse = sum(one.is_worse for one in lines)
    rows.append(f"{worse} of {len(lines)} lines lie below {WORSE_BELOW} with their whole interval")
    return "\n".join(rows) + "\n"
