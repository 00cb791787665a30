import math
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.synthesis import crossfade
from engines.types.audio import VOICE_RATE


def tone(seconds: float, size: float) -> crossfade.Sound:
    return array("f", [size * math.sin(place / 17) for place in range(int(seconds * VOICE_RATE))])


def floats(data: bytes) -> crossfade.Sound:
    return array("f", data)


def test_the_level_is_of_what_is_spoken_not_of_pauses() -> None:
    alone = crossfade.level(tone(1.0, 0.4))
    assert alone == pytest.approx(0.4 / math.sqrt(2), rel=0.01)
    assert crossfade.level(tone(1.0, 0.4) + tone(3.0, 0.001)) == pytest.approx(alone, rel=0.02)
    assert crossfade.level(array("f")) == 0 == crossfade.level(tone(1.0, 0.0))


@given(st.floats(0.02, 0.9), st.floats(0.02, 0.9))
def test_a_piece_is_brought_near_a_level_but_neither_clips_nor_changes_beyond_bounds(own: float, wanted: float) -> None:
    piece = floats(crossfade.fitted(tone(0.3, own), wanted))
    factor = crossfade.loudest(piece) / own
    assert 0.49 <= factor <= 2.01 and crossfade.loudest(piece) <= 0.99
    if 0.51 <= wanted * math.sqrt(2) / own <= 1.99 and wanted * math.sqrt(2) <= 0.97:
        assert crossfade.level(piece) == pytest.approx(wanted, rel=0.05)


def test_a_piece_begins_and_ends_in_silence_without_a_jump() -> None:
    piece = floats(crossfade.fitted(array("f", [0.5] * 4800), 0.0))
    assert piece[0] == piece[-1] == 0
    assert max(abs(after - before) for before, after in zip(piece, piece[1:], strict=False)) < 0.01


@given(st.lists(st.integers(0, 900), max_size=8))
def test_what_is_sent_while_it_is_made_is_the_whole_piece_with_soft_ends(sizes: list[int]) -> None:
    sound = tone(1.0, 0.5)
    running, sent, start = crossfade.Running(), array("f"), 0
    for size in sizes:
        sent += floats(running.add(sound[start : start + size]))
        start += size
    sent += floats(running.end())
    assert len(sent) == min(start, len(sound))
    assert (
        sent[2 * crossfade.FADE : -2 * crossfade.FADE] == sound[: len(sent)][2 * crossfade.FADE : -2 * crossfade.FADE]
    )
    if sent:
        assert sent[-1] == 0


def test_silence_is_as_long_as_is_said() -> None:
    assert crossfade.silence(0.25) == bytes(4 * VOICE_RATE // 4)
