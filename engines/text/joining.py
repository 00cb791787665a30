"""Joins the results of pieces: their text, their language, and sentences about what is missing."""

from collections.abc import Iterable, Sequence

from engines.text.characters import CLAUSE_MARKS, CLOSING, SENTENCE_MARKS, SPACELESS

MOST_NAMED = 20
Span = tuple[float, float]


class Joiner:
    """Appends texts. The strings that `add` has returned make the whole text."""

    def __init__(self) -> None:
        self._last = ""

    def add(self, text: str) -> str:
        """The text, stripped, with a leading space if the text before it needs one."""
        text = text.strip()
        if not text:
            return ""
        space = " " if self._last and _needs_space(self._last, text[0]) else ""
        self._last = text[-1]
        return space + text


def join(texts: Iterable[str]) -> str:
    """Consecutive texts as one, with spaces only between words of scripts that use them."""
    joiner = Joiner()
    return "".join(map(joiner.add, texts))


def _needs_space(before: str, after: str) -> bool:
    if after in SENTENCE_MARKS + CLAUSE_MARKS + CLOSING + "." and after not in "\"'":
        return False
    without = [bool(SPACELESS.match(character)) for character in (before, after)]
    return not any(without) or (before in ".,!?;:" and not without[0])


def main_language(heard: Iterable[tuple[str, float]]) -> str:
    """The language code with the most seconds, from pairs of (code, seconds); "" if no code is known."""
    seconds: dict[str, float] = {}
    for code, duration in heard:
        if code:
            seconds[code] = seconds.get(code, 0.0) + duration
    return max(seconds, key=seconds.__getitem__, default="")


def incompleteness(looped: Sequence[Span], cut: Sequence[Span], reckoned: Sequence[Span] = ()) -> tuple[str, ...]:
    """Sentences about spans of the recording, in seconds: `looped` where the model repeated itself, `cut` where it met
    its token limit, `reckoned` where word times are estimated."""
    sentences = []
    if looped:
        sentences.append(
            f"The model repeated itself {_spans(looped)}, also when it was asked again: the repetition is cut to one, "
            "and words may be missing there."
        )
    if cut:
        sentences.append(
            f"The text is cut {_spans(cut)}: the model met its limit of tokens, also in smaller pieces. Words are "
            "missing there."
        )
    if reckoned:
        sentences.append(
            f"The times of words are approximate {_spans(reckoned)}: those that the aligner found can't be true, so "
            "they are reckoned from the length of the text."
        )
    return tuple(sentences)


def gaps(spans: Sequence[Span]) -> tuple[str, ...]:
    """A sentence about spans of the file, in seconds, whose sound is missing; nothing if there are none."""
    if not spans:
        return ()
    named = ", ".join(f"from {start:.1f} to {end:.1f} s" for start, end in spans[:MOST_NAMED])
    more = len(spans) - MOST_NAMED
    rest = f", and {more} times more" if more > 0 else ""
    return (f"Sound is missing {named}{rest}: the file is damaged there, or has a gap.",)


def labelled(channel: int) -> str:
    """The label of a channel in a text."""
    return f"Channel {channel}"


def file_cut(seconds: float) -> str:
    return f"The file is damaged or cut off: after {clock(seconds)} nothing more of it could be read."


def clock(seconds: float) -> str:
    """Seconds as `1:02:03`, or `2:03` below an hour."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _spans(spans: Sequence[Span]) -> str:
    named = ", ".join(f"from {clock(start)} to {clock(end)}" for start, end in spans[:MOST_NAMED])
    more = len(spans) - MOST_NAMED
    return f"{named}, and {more} times more" if more > 0 else named
