"""Whether times of words can be true, and times for words that have none. Pure."""

import itertools
import math
from collections.abc import Sequence

from engines.text.characters import UNIT
from engines.text.timing import weight
from engines.types.audio import Segment, Word

FASTEST = 0.03  # seconds a syllable, about: nobody speaks three times as fast as the fastest
AT_ONCE = 10.0  # syllables or so: as many never begin at the same moment, whatever times are rounded to
SLACK = 0.5  # seconds by which a time may lie outside the sound
_SAME = 0.001


def is_plausible(words: Sequence[Word], seconds: float) -> bool:
    """Whether somebody can have spoken these words at these times, in a sound of so many seconds.

    An aligner that fails tells one time for all words or many, goes back, or leaves the sound.
    """
    times = [time for word in words for time in (word.start, word.end)]
    if not times or not all(map(math.isfinite, times)):
        return False
    if any(after < before - _SAME for before, after in itertools.pairwise(times)):
        return False
    if times[0] < -SLACK or times[-1] > seconds + SLACK:
        return False
    return len(words) == 1 or not _at_once(words)


def _at_once(words: Sequence[Word]) -> bool:
    """Whether more is spoken at one moment, or in all, than can be."""
    weights = [weight(word.text) for word in words]
    if words[-1].end - words[0].start < FASTEST * sum(weights):
        return True
    moment, spoken = words[0].start, 0.0
    for word, own in zip(words, weights, strict=True):
        if word.start > moment + _SAME:
            moment, spoken = word.start, 0.0
        spoken += own
        if spoken > AT_ONCE:
            return True
    return False


def reckoned(segment: Segment) -> tuple[Word, ...]:
    """The words of a segment, each as long as it takes to say in that time."""
    units = list(UNIT.finditer(segment.text))
    borders = [*(unit.start() for unit in units), len(segment.text)]
    weights = [weight(segment.text[begin:end]) for begin, end in itertools.pairwise(borders)]
    total = sum(weights) or 1.0
    words: list[Word] = []
    done = 0.0
    for unit, own in zip(units, weights, strict=True):
        start, end = (segment.start + (segment.end - segment.start) * part / total for part in (done, done + own))
        words.append(Word(unit[0], start, min(end, segment.end)))
        done += own
    return tuple(words)
