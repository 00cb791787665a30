import random

from hypothesis import given
from hypothesis import strategies as st

from training.voice.heard import HearingCase, _half, report


@given(st.lists(st.text(min_size=1, max_size=4), min_size=2, max_size=20), st.integers(0, 99))
def test_a_text_that_lacks_words_lacks_a_stretch_of_half_of_them(words: list[str], seed: int) -> None:
    kept = _half(words, random.Random(seed))
    assert len(kept) == len(words) - len(words) // 2
    size = next((place for place, word in enumerate(kept) if word != words[place]), len(kept))
    assert kept[size:] == words[len(words) - len(kept) + size :]


def test_figures_tell_false_alarms_and_what_was_caught() -> None:
    found = [
        HearingCase("a", True, True, True, False, False),
        HearingCase("b", True, False, True, True, False),
        HearingCase("c", False, True, True, False, False),
        HearingCase("d", False, True, False, False, False),
    ]
    assert list(report(found)) == [
        "4 texts: 2 spoken whole, 2 without half of their words",
        "heard, because their length leaves a doubt: 3",
        "length alone: 0 false alarms of 2, 1 caught of 2",
        "with hearing: 1 false alarms of 2, 2 caught of 2",
        "if all were heard: 2 false alarms of 2, 2 caught of 2",
    ]
