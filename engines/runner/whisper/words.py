"""When each word of a window was spoken, from what the decoder looked at while it read it. Pure NumPy."""

import string
from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from engines.runner.whisper.rules import seconds
from engines.types.audio import Word

Array = npt.NDArray[np.float32]

SPACELESS = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
SMOOTHED = 7  # steps over which attention is smoothed
LONGEST = 0.7  # seconds that a usual word has at most
BEYOND = 0.5  # seconds by which a last word may end behind its segment
BEFORE, BEHIND = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"
SENTENCE_ENDS = ".。!！?？"


class Timed(msgspec.Struct, frozen=True):
    """A word as it is written, spaces before it included, made of so many `tokens`. Times are seconds."""

    text: str
    tokens: int
    start: float
    end: float
    probability: float


def split(tokens: Sequence[int], bytes_of: Callable[[int], bytes], language: str) -> list[tuple[str, int]]:
    """The words of a text and of how many tokens each is; of characters, in scripts without spaces."""
    words: list[tuple[str, int]] = []
    for text, count in _characters(tokens, bytes_of):
        alone = text.startswith(" ") or text.strip() in string.punctuation or language in SPACELESS
        if alone or not words:
            words.append((text, count))
        else:
            words[-1] = (words[-1][0] + text, words[-1][1] + count)
    return words


def _characters(tokens: Sequence[int], bytes_of: Callable[[int], bytes]) -> Iterator[tuple[str, int]]:
    """The shortest runs of tokens that are whole characters. Where there are none, U+FFFD stands for them."""
    gathered, count = b"", 0
    for token in tokens:
        gathered, count = gathered + bytes_of(token), count + 1
        try:
            text = gathered.decode()
        except UnicodeDecodeError as error:
            if error.reason == "unexpected end of data" and count < 4:
                continue
            text = gathered.decode(errors="replace")
        yield text, count
        gathered, count = b"", 0
    if count:
        yield gathered.decode(errors="replace"), count


def attention_costs(attention: Array) -> Array:
    """[tokens, steps]: low where a token was heard. `attention` [heads, tokens, steps] is what each head looked at.

    What all tokens look at is taken out; the rest is smoothed in time, and the heads are averaged.
    """
    mean = attention.mean(axis=1, keepdims=True)
    deviation = attention.std(axis=1, keepdims=True)
    peaks = (attention - mean) / np.maximum(deviation, np.float32(1e-10))
    costs: Array = -_smoothed(peaks).mean(axis=0)
    return costs


def _smoothed(values: Array) -> Array:
    """Each the median of its neighbours in time; the ends are mirrored."""
    half = SMOOTHED // 2
    if values.shape[-1] <= half:
        return values
    padded = np.pad(values, ((0, 0), (0, 0), (half, half)), mode="reflect")
    neighbours = np.lib.stride_tricks.sliding_window_view(padded, SMOOTHED, axis=-1)
    medians: Array = np.partition(neighbours, half, axis=-1)[..., half]  # a fifth of the time of np.median
    return medians


def begins(costs: Array) -> list[int]:
    """The step at which each row of `costs` [rows, steps] begins on the cheapest monotone path through all of them.

    Dynamic time warping, a diagonal at a time: its cells don't depend on each other.
    """
    rows, steps = costs.shape
    total = np.full((rows + 1, steps + 1), np.inf, np.float32)
    move = np.zeros((rows + 1, steps + 1), np.int8)
    total[0, 0] = 0
    for diagonal in range(2, rows + steps + 1):
        row = np.arange(max(1, diagonal - steps), min(rows, diagonal - 1) + 1)
        step = diagonal - row
        both, down, right = total[row - 1, step - 1], total[row - 1, step], total[row, step - 1]
        taken = np.where((both <= down) & (both <= right), 0, np.where(down <= right, 1, 2))
        move[row, step] = taken
        total[row, step] = costs[row - 1, step - 1] + np.choose(taken, (both, down, right))
    found = [0] * rows
    row_at, step_at = rows, steps
    while row_at > 0:
        found[row_at - 1] = max(step_at - 1, 0)
        taken_here = 1 if step_at == 0 else int(move[row_at, step_at])
        row_at, step_at = row_at - (taken_here != 2), step_at - (taken_here != 1)
    return found


def timed(words: Sequence[tuple[str, int]], starts: Sequence[int], probabilities: Sequence[float]) -> list[Timed]:
    """Words with their times. `starts` has the step at which each token begins, and one more: where the last ends."""
    result: list[Timed] = []
    place = 0
    for text, count in words:
        start, end = seconds(starts[place]), seconds(starts[place + count])
        probability = float(np.mean(probabilities[place : place + count]))
        result.append(Timed(text, count, start, end, probability))
        place += count
    return _joined(_shortened(result))


def _shortened(words: list[Timed]) -> list[Timed]:
    """A pause between sentences belongs to neither the mark that ends one nor the word that begins the next."""
    durations = [word.end - word.start for word in words if word.end > word.start]
    longest = 2 * min(LONGEST, float(np.median(durations))) if durations else 0.0
    result = words[:1]
    for before, word in zip(words, words[1:], strict=False):
        if word.end - word.start > longest and word.text.strip() in SENTENCE_ENDS:
            word = msgspec.structs.replace(word, end=word.start + longest)
        elif word.end - word.start > longest and before.text.strip() in SENTENCE_ENDS:
            word = msgspec.structs.replace(word, start=word.end - longest)
        result.append(word)
    return result


def _joined(words: Sequence[Timed]) -> list[Timed]:
    """Punctuation goes with the word that it stands at."""
    result: list[Timed] = []
    opening: list[Timed] = []
    for word in words:
        if word.text.startswith(" ") and word.text.strip() and word.text.strip() in BEFORE:
            opening.append(word)
        elif result and not opening and word.text and word.text in BEHIND:
            result[-1] = _one([result[-1], word], result[-1])
        else:
            result.append(_one([*opening, word], word))
            opening = []
    return [*result, *opening]


def _one(words: Sequence[Timed], spoken: Timed) -> Timed:
    """Written together, with the times of what is spoken of it."""
    text, tokens = "".join(word.text for word in words), sum(word.tokens for word in words)
    return msgspec.structs.replace(spoken, text=text, tokens=tokens)


def last_end(words: Sequence[Timed], shift: float, segment_end: float) -> float:
    """When the last word ends that isn't empty, in seconds; they are timed from `shift` on. That of its segment, if
    there is none or it ends far behind that."""
    end = next((word.end + shift for word in reversed(words) if word.text.strip()), segment_end)
    return end if end <= segment_end + BEYOND else segment_end


def placed(words: Sequence[Timed], shift: float, start: float, end: float) -> tuple[Word, ...]:
    """The words of a segment from `start` to `end`, within it and in order; they are timed from `shift` seconds on."""
    result: list[Word] = []
    latest = start
    for word in words:
        begin = min(max(word.start + shift, latest), end)
        latest = min(max(word.end + shift, begin), end)
        if word.text.strip():
            result.append(Word(word.text.strip(), begin, latest, word.probability))
    return tuple(result)
