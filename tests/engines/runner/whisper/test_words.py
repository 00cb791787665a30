"""Times of words: where they are cut, the cheapest path through what was looked at, and where punctuation goes."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from engines.runner.whisper import words
from engines.runner.whisper.words import Timed


def split(text: bytes, sizes: Sequence[int], language: str = "en") -> list[tuple[str, int]]:
    """Of tokens with so many bytes each."""
    borders = [0, *itertools.accumulate(sizes)]
    pieces = [text[begin:end] for begin, end in itertools.pairwise(borders)]
    return words.split(range(len(pieces)), pieces.__getitem__, language)


def test_words_begin_with_a_space_and_marks_stand_alone() -> None:
    found = split(b" Hello, wor" + b"ld!", [6, 1, 4, 2, 1])
    assert found == [(" Hello", 1), (",", 1), (" world", 2), ("!", 1)]


def test_scripts_without_spaces_are_cut_into_characters_never_into_halves() -> None:
    assert split("粵語好".encode(), [1, 2, 2, 1, 3], "yue") == [("粵", 2), ("語", 2), ("好", 1)]


def test_what_is_no_text_takes_no_place_of_what_is() -> None:
    assert split(b"\xff\xe7\xb2", [1, 2], "zh") == [("�", 1), ("�", 1)]
    assert split(b" a\xff b", [2, 1, 2]) == [(" a�", 2), (" b", 1)]


@given(st.text(max_size=20), st.lists(st.integers(1, 5), max_size=40), st.sampled_from(["en", "zh"]))
def test_no_token_and_no_character_is_lost(text: str, sizes: list[int], language: str) -> None:
    data = text.encode()
    cuts = [size for size, total in zip(sizes, itertools.accumulate(sizes), strict=True) if total < len(data)]
    sizes = [*cuts, len(data) - sum(cuts)] if data else []
    found = split(data, sizes, language)
    assert sum(count for _, count in found) == len(sizes)
    if "\ufffd" not in text and all(size < 4 for size in sizes):
        joined = "".join(part for part, _ in found)
        assert joined == text or "\ufffd" in joined


def cheapest(costs: np.ndarray) -> float:
    """The cost of the cheapest path by plain recursion over all cells."""
    rows, steps = costs.shape
    total = np.full((rows + 1, steps + 1), np.inf)
    total[0, 0] = 0
    for row, step in itertools.product(range(rows), range(steps)):
        before = min(total[row, step], total[row, step + 1], total[row + 1, step])
        total[row + 1, step + 1] = costs[row, step] + before
    return float(total[-1, -1])


def cost_of(costs: np.ndarray, firsts: Sequence[int], lasts: Sequence[int]) -> float:
    borders = zip(firsts, lasts, strict=True)
    return float(sum(costs[row, first : last + 1].sum() for row, (first, last) in enumerate(borders)))


shapes = st.tuples(st.integers(1, 7), st.integers(1, 9))
matrices = arrays.arrays(np.float32, shapes, elements=st.integers(-5, 5).map(float))


@given(matrices)
def test_beginnings_lie_on_a_cheapest_path(costs: np.ndarray) -> None:
    begins = words.begins(costs)
    assert begins[0] == 0 and begins == sorted(begins) and len(begins) == len(costs)
    # A row is left at the step where the next begins, or at the one before.
    ends = [[max(first, after - 1), after] for first, after in itertools.pairwise(begins)]
    paths = itertools.product(*ends, [costs.shape[1] - 1])
    assert min(cost_of(costs, begins, path) for path in paths) == pytest.approx(cheapest(costs))


def test_a_clear_diagonal_is_followed() -> None:
    costs = np.ones((4, 40), np.float32)
    for row in range(4):
        costs[row, 10 * row : 10 * row + 10] = -1
    assert words.begins(costs) == [0, 10, 20, 30]


def test_punctuation_goes_with_its_word_and_has_no_time_of_its_own() -> None:
    texts = [" He", " said", ",", ' "', "yes", ".", '"']
    starts = [0, 50, 100, 120, 130, 180, 190, 200]
    found = words.timed([(text, 1) for text in texts], starts, [0.5] * 7)
    assert [word.text for word in found] == [" He", " said,", ' "yes."']
    assert [word.tokens for word in found] == [1, 2, 4]
    assert [(word.start, word.end) for word in found] == [(0.0, 1.0), (1.0, 2.0), (2.6, 3.6)]


def test_a_pause_between_sentences_is_in_no_word() -> None:
    texts = [" One", " two", ".", " Three", " four"]
    found = words.timed([(text, 1) for text in texts], [0, 20, 40, 400, 700, 720], [1.0] * 5)
    assert [word.text for word in found] == [" One", " two.", " Three", " four"]
    assert found[2].start == pytest.approx(14.0 - 0.8) and found[2].end == 14.0


@given(
    st.lists(st.tuples(st.floats(0, 30), st.floats(0, 30), st.sampled_from([" a", "b", " "])), max_size=8),
    st.floats(0, 10),
    st.floats(10, 20),
)
def test_words_are_within_their_segment_and_in_order(
    found: list[tuple[float, float, str]], start: float, end: float
) -> None:
    placed = words.placed([Timed(text, 1, begin, stop, 1.0) for begin, stop, text in found], 0.5, start, end)
    borders = [start, *(time for word in placed for time in (word.start, word.end)), end]
    assert borders == sorted(borders)
    assert [word.text for word in placed] == [text.strip() for _, _, text in found if text.strip()]
