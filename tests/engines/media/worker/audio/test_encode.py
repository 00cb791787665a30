"""Files of sound: true sizes, true lengths, the same pitch at any speed, whatever the number of feeds."""

import itertools
import re
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest

from engines.media.worker.audio.decode import Recording
from engines.media.worker.audio.encode import FileEncoder, rate_for, wav_header
from engines.media.worker.audio.tempo import stages
from engines.types.audio import SoundFormat
from engines.types.errors import InternalError, InvalidRequest
from tests.engines.media.worker.audio.sounds import Samples, decibel, speechlike, tone, write

RATE = 24_000
FORMATS: tuple[SoundFormat, ...] = ("wav", "mp3", "flac", "opus", "aac", "pcm")
# Seconds that a format adds, since its frames are filled up and nothing in the file says by how much.
PADDING = {"aac": 0.09, "mp3": 0.075}


def encode(
    format: SoundFormat,
    samples: Samples,
    feeds: int = 3,
    rate_out: int | None = None,
    speed: float = 1.0,
    whole: bool = True,
) -> bytes:
    with closing(FileEncoder(format, RATE, rate_out, speed, whole)) as encoder:
        made = [encoder.feed(part) for part in np.array_split(samples, feeds)]
        return b"".join([*made, *encoder.finish()])


def decode(folder: Path, data: bytes, format: SoundFormat, rate: int = RATE) -> Samples:
    if format == "pcm":
        return (np.frombuffer(data, "<i2") / 32767).astype(np.float32)
    path = write(folder, data)
    with closing(Recording(path, rate, 3600, lambda done, total: None)) as recording:
        samples = np.concatenate(list(recording.blocks()))
        assert not recording.cut
        return samples


def hertz(samples: Samples, rate: int = RATE) -> float:
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    return float(np.argmax(np.abs(np.fft.rfft(middle * np.hanning(len(middle)))))) * rate / len(middle)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("format", FORMATS)
def test_a_file_is_as_long_and_as_loud_as_what_was_fed(tmp_path: Path, format: SoundFormat, whole: bool) -> None:
    for seconds, feeds in itertools.product((0.05, 1.0, 3.3), (1, 7)):
        heard = decode(tmp_path, encode(format, tone(seconds, RATE, 300), feeds, whole=whole), format)
        padding = 0.0 if whole and format == "mp3" else PADDING.get(format, 0.0)
        assert -0.001 <= len(heard) / RATE - seconds <= padding + 0.001
        if seconds >= 1:
            assert decibel(heard[2000:20_000]) == pytest.approx(decibel(tone(1.0)), abs=0.5)


@pytest.mark.parametrize("speed", [0.25, 0.4, 0.5, 0.8, 1.0, 1.25, 2.0, 3.0, 4.0])
def test_speed_changes_the_length_exactly_and_not_the_pitch(tmp_path: Path, speed: float) -> None:
    for format in ("wav", "pcm", "opus"):
        heard = decode(tmp_path, encode(format, tone(6.0, RATE, 300), 5, speed=speed), format)
        assert len(heard) / RATE == pytest.approx(6.0 / speed, rel=0.005)
        assert hertz(heard) == pytest.approx(300, abs=3)
        assert decibel(heard[2000:-2000]) == pytest.approx(decibel(tone(1.0)), abs=0.5)


@pytest.mark.parametrize("format", FORMATS)
def test_the_rate_can_be_chosen(tmp_path: Path, format: SoundFormat) -> None:
    for rate in (8_000, 16_000, 24_000, 48_000):
        heard = decode(tmp_path, encode(format, tone(2.0, RATE, 300), 4, rate_out=rate), format, rate)
        assert len(heard) / rate == pytest.approx(2.0, abs=0.21 if format == "aac" else 0.001)
        assert hertz(heard, rate) == pytest.approx(300, abs=3)


@pytest.mark.parametrize("format", FORMATS)
def test_the_number_of_feeds_makes_no_difference(format: SoundFormat) -> None:
    sound = speechlike(2.0, 0.2, RATE)
    for whole in (True, False):
        once, often = encode(format, sound, 1, whole=whole), encode(format, sound, 50, whole=whole)
        assert _without_serials(once) == _without_serials(often)


def _without_serials(data: bytes) -> list[bytes]:
    """Pages of Ogg have a random number, and a sum that covers it."""
    head, *pages = data.split(b"OggS")
    return [head, *(page[:10] + page[22:] for page in pages)]


def test_headers_of_whole_files_have_true_sizes() -> None:
    sound = tone(2.0, RATE)
    wave = encode("wav", sound)
    assert wave[:44] == wav_header(RATE, 2 * len(sound)) and len(wave) == 44 + 2 * len(sound)
    assert int.from_bytes(wave[4:8], "little") == len(wave) - 8
    assert int.from_bytes(wave[40:44], "little") == len(wave) - 44
    flac = encode("flac", sound)
    assert int.from_bytes(flac[21:26], "big") & 0xFFFFFFFFF == len(sound)
    assert flac[26:42] != bytes(16)  # the sum of the samples
    assert b"Info" in encode("mp3", sound)[:100] or b"Xing" in encode("mp3", sound)[:100]


def test_files_that_are_streamed_have_one_header_and_tell_no_size() -> None:
    wave = encode("wav", tone(2.0, RATE), 5, whole=False)
    assert wave[:44] == wav_header(RATE, None) and wave.count(b"RIFF") == 1
    assert encode("flac", tone(2.0, RATE), 5, whole=False).count(b"fLaC") == 1
    assert encode("opus", tone(2.0, RATE), 5, whole=False).count(b"OpusHead") == 1


@pytest.mark.parametrize("format", ["wav", "mp3", "opus", "aac", "pcm", "flac"])
def test_of_what_is_streamed_the_first_bytes_come_early(format: SoundFormat) -> None:
    """After half a second of sound there is at least a third of a second of it in the bytes."""
    with closing(FileEncoder(format, RATE, None, 1.0, whole=False)) as encoder:
        first = encoder.feed(tone(0.5, RATE))
        rest = b"".join([encoder.feed(tone(0.5, RATE)) for _ in range(9)] + list(encoder.finish()))
        assert len(first) > 0.33 / 5 * (len(first) + len(rest))


@pytest.mark.parametrize("format", ["mp3", "flac", "opus", "aac"])
def test_the_library_and_its_container_agree_that_it_is_what_was_asked_for(tmp_path: Path, format: SoundFormat) -> None:
    codecs = {"mp3": "mp3float", "flac": "flac", "opus": "opus", "aac": "aac"}
    with av.open(write(tmp_path, encode(format, tone(1.0, RATE)))) as container:
        assert container.streams.audio[0].codec_context.name == codecs[format]
        assert container.streams.audio[0].codec_context.layout.name == "mono"


@pytest.mark.parametrize("format", ["mp3", "flac", "opus", "aac"])
def test_nothing_fed_is_a_file_all_the_same(tmp_path: Path, format: SoundFormat) -> None:
    for whole in (True, False):
        assert len(decode(tmp_path, encode(format, tone(0.0), 1, whole=whole), format)) < 0.3 * RATE


def test_sound_beyond_full_scale_is_clipped_and_not_wrapped(tmp_path: Path) -> None:
    for format in ("wav", "flac", "pcm"):
        heard = decode(tmp_path, encode(format, tone(1.0, RATE, 100, 2.0)), format)
        assert np.abs(np.diff(heard)).max() < 0.2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_numbers_are_an_error(bad: float) -> None:
    sound = tone(0.1, RATE)
    sound[100] = bad
    with pytest.raises(InternalError, match="aren't numbers"):
        encode("wav", sound)


@pytest.mark.parametrize("speed", [0.0, 0.2, 4.1, -1.0, float("nan"), float("inf")])
def test_a_speed_that_cannot_be_is_refused(speed: float) -> None:
    with pytest.raises(InvalidRequest) as caught:
        FileEncoder("wav", RATE, None, speed, whole=True)
    assert caught.value.param == "speed"


def test_a_rate_that_a_format_cannot_have_is_refused_with_those_it_can() -> None:
    for format, rate in [("opus", 22_050), ("mp3", 96_000), ("wav", 1), ("pcm", 0), ("flac", 10**9)]:
        with pytest.raises(InvalidRequest, match="24000") as caught:
            rate_for(format, RATE, rate)  # type: ignore[arg-type]
        assert caught.value.param == "sample_rate"
    assert rate_for("opus", 22_050, None) == 24_000 and rate_for("mp3", 96_000, None) == 48_000


@pytest.mark.parametrize("format", FORMATS)
def test_every_rate_that_is_listed_makes_a_file_of_that_rate(tmp_path: Path, format: SoundFormat) -> None:
    with pytest.raises(InvalidRequest) as caught:
        rate_for(format, RATE, 7)
    rates = [int(rate) for rate in re.findall(r"\d+", caught.value.message.partition("it can have")[2])]
    assert len(rates) >= 5
    for rate in rates:
        heard = decode(tmp_path, encode(format, tone(1.0, RATE, 300), rate_out=rate), format, rate)
        assert len(heard) / rate == pytest.approx(1.0, abs=0.25)
        assert hertz(heard, rate) == pytest.approx(300, abs=5)


def test_stages_of_tempo_are_within_what_the_filter_does_well() -> None:
    for speed in (0.25, 0.3, 0.5, 0.99, 1.0, 1.5, 2.0, 2.1, 4.0):
        assert np.prod(stages(speed)) == pytest.approx(speed) and all(0.5 <= stage <= 2.0 for stage in stages(speed))
