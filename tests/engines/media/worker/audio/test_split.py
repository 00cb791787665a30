"""Where recordings are split, and what of them is silence."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.media.worker.audio.split import SampleRange, Splitter
from tests.engines.media.worker.audio.sounds import Samples, noise, speechlike, tone

RATE = 2_000  # frames of 40 samples: a minute is quickly made
SOUND = st.tuples(st.just("sound"), st.floats(0.3, 9.0), st.sampled_from([0.3, 0.1, 0.03]))
PAUSE = st.tuples(st.just("pause"), st.sampled_from([0.1, 0.3, 0.6, 1.5, 2.5, 5.0, 40.0]), st.just(0.0))


def split(
    samples: Samples, longest: float = 30.0, least: float = 0.5, rate: int = RATE, block: int = 777
) -> list[SampleRange]:
    splitter = Splitter(longest, least, rate)
    fed = itertools.chain.from_iterable(splitter.feed(samples[at : at + block]) for at in range(0, len(samples), block))
    return [*fed, *splitter.finish()]


def spans(parts: list[SampleRange], rate: int = RATE) -> list[tuple[float, float]]:
    return [(part.start / rate, (part.start + len(part.samples)) / rate) for part in parts]


def joined(*stretches: Samples, background: float = 1e-4, rate: int = RATE) -> Samples:
    """One after another, in a room with some noise."""
    whole = np.concatenate(stretches)
    return (whole + noise(len(whole) / rate, background, rate, seed=99)[: len(whole)]).astype(np.float32)


def silence(seconds: float, rate: int = RATE) -> Samples:
    return np.zeros(round(seconds * rate), np.float32)


@given(
    stretches=st.lists(st.one_of(SOUND, PAUSE), min_size=1, max_size=12),
    longest=st.sampled_from([3.0, 10.0, 30.0]),
    least=st.sampled_from([0.0, 0.1, 0.5]),
    background=st.sampled_from([0.0, 1e-4, 1e-3]),
    block=st.sampled_from([1, 39, 40, 1000, 100_000]),
)
def test_all_that_is_sound_is_in_exactly_one_piece_in_order_and_within_bounds(
    stretches: list[tuple[str, float, float]], longest: float, least: float, background: float, block: int
) -> None:
    made = [
        speechlike(seconds, level, RATE, seed) if kind == "sound" else silence(seconds)
        for seed, (kind, seconds, level) in enumerate(stretches)
    ]
    samples = joined(*made, background=background)
    parts = split(samples, longest, least, block=len(samples) if block == 1 else block)

    covered = np.zeros(len(samples), int)
    for before, after in itertools.pairwise([SampleRange(0, samples[:0]), *parts]):
        assert before.start + len(before.samples) <= after.start
    for part in parts:
        assert 0 < len(part.samples) <= longest * RATE
        assert len(part.samples) >= min(least * RATE, len(samples) - 40)
        assert (part.samples == samples[part.start : part.start + len(part.samples)]).all()
        covered[part.start : part.start + len(part.samples)] += 1
    at = 0
    for (kind, _, _), stretch in zip(stretches, made, strict=True):
        if kind == "sound":
            assert (covered[at : at + len(stretch)] == 1).all()
        at += len(stretch)


def test_a_sound_that_fades_out_where_a_piece_is_full_is_not_cut_off() -> None:
    loud = [speechlike(seconds, 0.3, RATE, seed) for seed, seconds in ((1, 4.625), (2, 8.75), (3, 8.75))]
    samples = joined(silence(0.1), *loud, speechlike(7.6875, 0.1, RATE, 4), silence(0.1), background=0.0)
    assert spans(split(samples, 30.0, 0.0))[-1][1] >= 29.9


@settings(max_examples=20)
@given(st.integers(30, 5000), st.integers(30, 5000))
def test_it_makes_no_difference_in_what_blocks_a_recording_comes(first: int, second: int) -> None:
    samples = joined(*(x for seed in range(9) for x in (speechlike(2.0 + seed, 0.1, RATE, seed), silence(0.2 * seed))))
    assert spans(split(samples, 7.0, block=first)) == spans(split(samples, 7.0, block=second))


def test_silence_before_between_and_after_is_left_out_and_times_stay_true() -> None:
    samples = joined(silence(5), speechlike(3, 0.2, RATE), silence(60), speechlike(2, 0.2, RATE), silence(30))
    assert np.ravel(spans(split(samples))) == pytest.approx([4.5, 8.5, 67.5, 70.5], abs=0.2)


@pytest.mark.parametrize("quiet", [0.1, 0.3, 0.5, 1.0, 1.9, 2.5, 30.0])
def test_quiet_at_a_recordings_end_is_kept_to_half_a_second_at_least(quiet: float) -> None:
    """And all of it, if it is too short to part two pieces."""
    (found,) = spans(split(joined(speechlike(3, 0.2, RATE), silence(quiet))))
    assert found[1] == pytest.approx(3 + quiet if quiet < 2 else 3.5, abs=0.1)


def test_a_short_pause_parts_nothing() -> None:
    samples = joined(speechlike(3, 0.2, RATE), silence(1.5), speechlike(3, 0.2, RATE))
    assert len(split(samples)) == 1


@pytest.mark.parametrize("background", [0.0, 1e-4, 3e-3, 3e-2])
@pytest.mark.parametrize("longest", [12.0, 30.0, 60.0])
def test_a_piece_that_gets_too_long_is_cut_within_a_pause(longest: float, background: float) -> None:
    """Also where the noise is so loud that it is never left out."""
    rng, stretches, at, pauses = np.random.default_rng(5), [], 0.0, []
    for seed in range(40):
        seconds, rest = float(rng.uniform(1.5, 4.0)), float(rng.choice([0.2, 0.4, 0.7]))
        stretches += [speechlike(seconds, 0.3, RATE, seed), silence(rest)]
        pauses.append((at + seconds, at + seconds + rest))
        at += seconds + rest
    found = spans(split(joined(*stretches, background=background), longest))
    assert len(found) >= at / longest
    for _, end in found[:-1]:
        assert any(start - 0.15 <= end <= stop + 0.25 for start, stop in pauses), end


def test_the_first_piece_of_a_long_recording_is_short_and_of_a_short_one_all_of_it() -> None:
    speech = [tone(4, RATE, 200), silence(0.5)]
    lengths = [end - start for start, end in spans(split(joined(*speech * 45), longest=60.0))]
    assert 10.0 <= lengths[0] <= 20.0 and len(lengths) == 5 and min(lengths[1:-1]) > 30.0
    assert len(split(joined(*speech * 12), longest=60.0)) == 1
    assert spans(split(joined(*speech * 12), longest=30.0))[0][1] > 20.0


def test_where_there_is_no_pause_a_piece_is_cut_where_it_is_quietest() -> None:
    samples = np.concatenate([tone(14, RATE, 200, 0.3), tone(0.3, RATE, 200, 0.2), tone(15, RATE, 200, 0.3)])
    first, second = spans(split(samples, longest=18.0))
    assert 14.0 <= first[1] <= 14.3 and first[1] == second[0]


def test_sound_without_any_pause_is_cut_without_a_gap() -> None:
    found = spans(split(tone(100, RATE, 200), longest=10.0))
    assert found[0][0] == 0.0 and found[-1][1] == 100.0
    assert all(before[1] == after[0] for before, after in itertools.pairwise(found))
    assert all(5.0 <= end - start <= 10.0 for start, end in found[:-1])


@pytest.mark.parametrize(
    "samples",
    [
        silence(100),
        noise(100, 1e-4, RATE),
        noise(100, 3e-3, RATE),
        tone(100, RATE, 100, 0.003),
        np.full(100 * RATE, 1e-3, np.float32),
        joined(silence(10), np.ones(10, np.float32), silence(10)),
    ],
    ids=["zeros", "hiss", "loud hiss", "hum", "offset", "click"],
)
def test_a_recording_without_speech_gives_no_piece(samples: Samples) -> None:
    """Models invent text on it."""
    assert not split(samples)


@pytest.mark.parametrize(("level", "background"), [(0.001, 1e-5), (0.003, 2e-4), (0.01, 1e-3), (0.1, 2e-2)])
def test_quiet_speech_is_kept(level: float, background: float) -> None:
    """Down to -70 dB, in a room that is quieter still, and next to loud speech."""
    quiet = speechlike(4, level, RATE, 1)
    alone = joined(silence(20), quiet, silence(20), background=background)
    assert any(start <= 20.2 and end >= 23.8 for start, end in spans(split(alone)))
    after = joined(speechlike(20, 0.3, RATE), silence(4), quiet, silence(4), background=background)
    assert any(start <= 24.2 and end >= 27.8 for start, end in spans(split(after)))


@pytest.mark.parametrize("kind", ["word", "sentence", "tone"])
@pytest.mark.parametrize("level", [0.02, 0.3])
def test_a_clip_of_nothing_but_speech_is_one_piece(kind: str, level: float) -> None:
    clips = {
        "word": speechlike(0.4, level, RATE),
        "sentence": speechlike(5, level, RATE),
        "tone": tone(1, RATE, 200, level),
    }
    (part,) = split(clips[kind])
    assert len(part.samples) >= 0.9 * len(clips[kind])


def test_a_short_piece_is_made_long_enough_by_the_silence_around_it() -> None:
    samples = joined(silence(5), speechlike(0.3, 0.3, RATE), silence(5), speechlike(0.3, 0.3, RATE))
    for start, end in spans(split(samples, least=2.0)):
        assert end - start >= 2.0


def test_ten_hours_take_no_more_memory_than_ten_minutes() -> None:
    splitter = Splitter(30.0, 0.5, 500)
    held = splitter._samples.nbytes
    block = joined(speechlike(55, 0.2, 500), silence(5, 500), rate=500)
    parts = [part for _ in range(600) for part in splitter.feed(block)]
    assert splitter._samples.nbytes == held and len(splitter._activity._levels) < 2500
    last = (parts[-1].start + len(parts[-1].samples)) / 500
    assert 36_000 - 70 < last < 36_000


def test_pieces_of_impossible_length_are_refused() -> None:
    for longest, least in [(0.5, 0.0), (10.0, 3.0), (4.0, 1.5)]:
        with pytest.raises(ValueError):
            Splitter(longest, least, RATE)
