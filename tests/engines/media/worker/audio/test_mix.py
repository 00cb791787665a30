"""Several channels as one: whoever is in any of them is in the mix, in every stretch."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.media.worker.audio.mix import Channels, Mix, Samples
from engines.types.errors import InvalidRequest
from tests.engines.media.worker.audio.sounds import decibel, encoded, noise, speechlike, wav, write
from tests.engines.media.worker.audio.test_decode import hear
from tests.promises import promise

RATE = 16_000


def mixed(channels: Channels) -> Samples:
    mix = Mix(RATE)
    step = RATE // 4
    return np.concatenate([mix.feed(channels[:, at : at + step]) for at in range(0, channels.shape[1], step)])


def likeness(sound: Samples, heard: Samples) -> float:
    """How alike two are, whatever the level and the sign: 1 is the same."""
    return float(abs(sound @ heard) / np.sqrt((sound @ sound) * (heard @ heard) + 1e-20))


def banded(sound: Samples, low: float, high: float) -> Samples:
    spectrum = np.fft.rfft(sound)
    hertz = np.fft.rfftfreq(len(sound), 1 / RATE)
    spectrum[(hertz < low) | (hertz > high)] = 0
    return np.fft.irfft(spectrum, len(sound)).astype(np.float32)


@promise("audio:mix:loses-nobody")
@given(
    st.integers(1, 64), st.data(), st.sampled_from([0.0, 1e-4, 0.003]), st.sampled_from(["alone", "opposite", "signs"])
)
@settings(max_examples=60, deadline=None)
def test_a_voice_is_heard_in_whatever_channels_and_phases_it_is(
    count: int, data: st.DataObject, hiss: float, kind: str
) -> None:
    voice = speechlike(1.0)
    channels = np.stack(
        [noise(1.0, hiss, seed=number) if hiss else np.zeros(RATE, np.float32) for number in range(count)]
    )
    place = data.draw(st.integers(0, count - 1))
    if kind == "alone":
        channels[place] += voice
    elif kind == "opposite":
        channels[place] += voice
        channels[data.draw(st.integers(0, count - 1))] -= voice * (count > 1)
        if not np.abs(channels).max() > 0.1:
            return  # the same channel twice: there is no voice
    else:
        signs = data.draw(st.lists(st.sampled_from([-1, 1]), min_size=count, max_size=count))
        channels += np.array(signs, np.float32)[:, None] * voice
    heard = mixed(channels)
    assert decibel(heard) > decibel(voice) - 8
    assert likeness(voice, heard) > 0.9


@promise("audio:mix:loses-nobody")
def test_who_is_in_opposite_phases_is_heard_beside_what_is_in_one() -> None:
    voice = banded(speechlike(2.0, 0.3), 300, 3400)
    for level in (0.01, 0.1, 0.5):
        hum = (level * np.sin(2 * np.pi * 50 * np.arange(2 * RATE) / RATE)).astype(np.float32)
        heard = banded(mixed(np.stack([hum + voice, hum - voice])), 300, 3400)
        assert likeness(voice, heard) > 0.9 and decibel(heard) > decibel(voice) - 8, level


def test_two_who_speak_at_a_time_in_different_phases_are_both_heard() -> None:
    first, second = banded(speechlike(2.0, 0.3), 200, 1000), banded(speechlike(2.0, 0.3, seed=1), 1300, 3400)
    for channels in ([first + second, first - second], [first, second], [first, -first, second, -second]):
        heard = mixed(np.stack(channels))
        assert decibel(banded(heard, 200, 1000)) > decibel(first) - 9
        assert decibel(banded(heard, 1300, 3400)) > decibel(second) - 9


def test_turns_in_different_phases_are_all_heard_and_pass_without_a_click() -> None:
    voice = speechlike(4.0)
    signs = np.repeat([1, -1, 1, -1], RATE).astype(np.float32)
    heard = mixed(np.stack([voice, voice * signs]))
    for second in range(4):
        part = slice(second * RATE, (second + 1) * RATE)
        assert decibel(heard[part]) == pytest.approx(decibel(voice[part]), abs=1)
    sine = np.sin(2 * np.pi * 200 * np.arange(4 * RATE) / RATE).astype(np.float32) * 0.5
    jumps = np.abs(np.diff(mixed(np.stack([sine, sine * signs]))))
    assert jumps.max() < 1.3 * np.abs(np.diff(sine)).max()


def test_an_ordinary_recording_is_the_mean_of_its_channels() -> None:
    voice, room = speechlike(2.0), noise(2.0, 0.01)
    for channels in ([voice, voice], [voice, 0.3 * voice + room], [voice, np.zeros_like(voice)], [voice + room, voice]):
        stacked = np.stack(channels)
        assert np.allclose(mixed(stacked), stacked.mean(axis=0), atol=1e-6)


LAYOUTS = ("mono", "stereo", "2.1", "3.0", "quad", "4.1", "5.1", "5.1(side)", "6.1", "7.1", "7.1(wide)", "hexagonal")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_voice_in_any_one_channel_of_any_layout_is_heard(tmp_path: Path, layout: str) -> None:
    import av

    voice = np.repeat(speechlike(1.0), 3)  # of 48,000 samples a second
    count = len(av.AudioLayout(layout).channels)
    for place in range(count):
        channels = np.zeros((count, len(voice)), np.float32)
        channels[place] = voice
        heard = hear(write(tmp_path, encoded(channels.T.reshape(-1), 48_000, "wav", "pcm_s16le", layout, apart=True)))
        assert decibel(heard.samples) > decibel(voice) - 8, place


@pytest.mark.parametrize("count", [3, 16, 17, 64])
def test_channels_without_places_and_many_of_them_are_read(tmp_path: Path, count: int) -> None:
    voice = speechlike(1.0, rate=16_000)
    for place in (0, count // 2, count - 1):
        channels = np.zeros((count, len(voice)), np.float32)
        channels[place] = voice
        path = write(tmp_path, wav(channels.T.reshape(-1), 16_000, 16, count, apart=True))
        assert likeness(voice, hear(path).samples) > 0.99
        assert likeness(voice, hear(path, channel=place + 1).samples) > 0.99
        assert not hear(path, channel=(place + 1) % count + 1).samples.any()


def test_a_channel_that_is_not_there_is_refused_with_how_many_there_are(tmp_path: Path) -> None:
    path = write(tmp_path, wav(speechlike(1.0), 16_000, 16, 2))
    for channel in (0, 3, 99, -1):
        with pytest.raises(InvalidRequest, match="2 channels") as caught:
            hear(path, channel=channel)
        assert caught.value.param == "channels"
    with pytest.raises(InvalidRequest, match="one channel"):
        hear(write(tmp_path, wav(speechlike(1.0), 16_000)), channel=2)
