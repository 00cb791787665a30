"""Damage in the middle of a file, of every kind and in every container: what is there is heard at its true time, and
where sound is missing is told."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.media.worker.audio.clock import Clock, GapLimits, Gaps, Moment
from engines.media.worker.audio.holes import adts_frame, lost_pages, ogg_checksum
from tests.engines.media.worker.audio.ogg import changed, granule, pages
from tests.engines.media.worker.audio.sounds import Samples, encoded, file_of, noise, tone, write
from tests.engines.media.worker.audio.test_decode import Heard, hear
from tests.promises import promise

RATE, SECONDS = 48_000, 12
KINDS = ("mp3", "m4a", "alac", "fragmented", "flac", "opus", "webm", "mkv", "aac")


def stairs() -> Samples:
    """Each second has a tone of its own."""
    return np.concatenate([tone(1.0, RATE, 300 + 150 * second) for second in range(SECONDS)]) + noise(
        SECONDS, 0.01, RATE
    )


def seconds_at_their_time(heard: Heard) -> list[int]:
    """Which of the seconds have their own tone in their middle."""
    found = []
    for second in range(SECONDS):
        part = heard.samples[second * 16_000 + 4000 : second * 16_000 + 12_000]
        if len(part) == 8000 and np.abs(part).max() > 0.05:
            spectrum = np.abs(np.fft.rfft(part * np.hanning(8000)))
            if abs(np.argmax(spectrum) * 2 - 300 - 150 * second) <= 10:
                found.append(second)
    return found


def without(content: bytes, first: float, last: float) -> bytes:
    return content[: int(len(content) * first)] + content[int(len(content) * last) :]


def zeroed(content: bytes, first: float, last: float) -> bytes:
    begin, end = int(len(content) * first), int(len(content) * last)
    return content[:begin] + bytes(end - begin) + content[end:]


@promise("audio:gaps:told")
@pytest.mark.parametrize("kind", KINDS)
def test_zeroed_bytes_cost_what_was_in_them_and_are_told(tmp_path: Path, kind: str) -> None:
    heard = hear(write(tmp_path, zeroed(file_of(kind, stairs(), RATE), 0.5, 0.55)))
    assert heard.seconds == pytest.approx(SECONDS, abs=0.1) and not heard.cut
    (gap,) = heard.gaps
    assert 4.9 <= gap[0] <= 6.1 and 6.2 <= gap[1] <= 10.1  # a cluster of Matroska has five seconds
    missing = range(int(gap[0]), int(gap[1]) + 1)
    assert set(range(SECONDS)) - set(missing) <= set(seconds_at_their_time(heard))


@promise("audio:gaps:told")
@pytest.mark.parametrize("kind", ["flac", "opus", "webm", "mkv"])
def test_bytes_that_are_gone_leave_a_gap_of_their_length(tmp_path: Path, kind: str) -> None:
    heard = hear(write(tmp_path, without(file_of(kind, stairs(), RATE), 0.5, 0.55)))
    assert heard.seconds == pytest.approx(SECONDS, abs=0.1)
    (gap,) = heard.gaps
    missing = range(int(gap[0]), int(gap[1]) + 1)
    assert set(range(SECONDS)) - set(missing) <= set(seconds_at_their_time(heard))


@pytest.mark.parametrize("kind", ["mp3", "aac"])
def test_formats_without_times_tell_at_least_where_something_is_gone(tmp_path: Path, kind: str) -> None:
    heard = hear(write(tmp_path, without(file_of(kind, stairs(), RATE), 0.5, 0.55)))
    (gap,) = heard.gaps
    assert 5.8 < gap[0] < gap[1] < 6.7 and not heard.cut


OTHERS = {
    "asf": ("wmav2", 44_100),
    "avi": ("libmp3lame", 44_100),
    "flv": ("libmp3lame", 44_100),
    "mpegts": ("aac", 48_000),
    "ac3": ("ac3", 48_000),
    "tta": ("tta", 44_100),
    "wv": ("wavpack", 44_100),
}


@pytest.mark.parametrize("container", OTHERS)
def test_other_containers_tell_at_least_that_something_is_missing(tmp_path: Path, container: str) -> None:
    codec, rate = OTHERS[container]
    options = {"b": "64000"} if container == "asf" else None
    whole = encoded(tone(12.0, rate) + noise(12, 0.01, rate), rate, container, codec, codec_options=options)
    cut = hear(write(tmp_path, whole[: len(whole) * 7 // 10]))
    assert cut.cut and cut.seconds == pytest.approx(8.4, abs=0.6)
    gone = hear(write(tmp_path, without(whole, 0.5, 0.55)))
    assert (gone.gaps or gone.cut) and gone.seconds > 5


def test_files_that_were_joined_have_no_gap_where_they_meet(tmp_path: Path) -> None:
    picture = b"ID3\x03\0\0" + bytes((0, 0x0F, 0, 0)) + b"\xaa\0" * (0x0F << 13)
    for kind in ("mp3", "aac"):
        one = file_of(kind, stairs(), RATE)
        for content in (one * 3, one + picture + one):
            heard = hear(write(tmp_path, content))
            assert not heard.gaps and not heard.cut, kind
            assert heard.seconds == pytest.approx(SECONDS * (3 if content == one * 3 else 2), abs=0.2)


@pytest.mark.parametrize("kind", [*KINDS, "wav", "mov", "aiff"])
def test_a_whole_file_has_no_gap(tmp_path: Path, kind: str) -> None:
    heard = hear(write(tmp_path, file_of(kind, stairs(), RATE)))
    assert not heard.gaps and not heard.cut and seconds_at_their_time(heard) == list(range(SECONDS))


def opus() -> list[bytes]:
    return pages(file_of("opus", stairs(), RATE))


MIDDLE = 7  # a page a second, behind two of headers: this one ends after six seconds


@promise("audio:gaps:told")
def test_a_page_of_ogg_that_is_lost_or_has_a_wrong_checksum_is_a_gap(tmp_path: Path) -> None:
    whole = opus()
    wrong = bytearray(whole[MIDDLE])
    wrong[200] ^= 1
    timeless = changed(whole[MIDDLE], granule=-1)
    for middle in ([], [bytes(wrong)], [timeless], [b"garbage" * 100]):
        heard = hear(write(tmp_path, b"".join([*whole[:MIDDLE], *middle, *whole[MIDDLE + 1 :]])))
        assert heard.seconds == pytest.approx(SECONDS, abs=0.05) and not heard.cut
        ((start, end),) = heard.gaps
        assert start == pytest.approx(5, abs=0.15) and end == pytest.approx(6, abs=0.15)
        assert set(seconds_at_their_time(heard)) >= set(range(SECONDS)) - {5}


@promise("audio:gaps:told")
def test_a_voice_note_that_was_paused_or_has_odd_marks_is_heard_whole_and_nothing_is_said_to_be_missing(
    tmp_path: Path,
) -> None:
    whole = opus()
    before, behind = whole[:MIDDLE], whole[MIDDLE:]
    base = granule(before[-1])
    cases = {
        "a minute later": [*before, *(changed(page, granule(page) + 60 * RATE) for page in behind)],
        "ten hours later": [*before, *(changed(page, granule(page) + 36_000 * RATE) for page in behind)],
        "from 0 again": [*before, *(changed(page, granule(page) - base) for page in behind)],
        "a wild time": [*before, changed(behind[0], 9999 * RATE), *behind[1:]],
        "no end": [*whole[:-1], changed(whole[-1], flags=0)],
        "end in the middle": [*before, changed(behind[0], flags=4), *behind[1:]],
        "another stream": [*before, *(changed(page, serial=77) for page in opus())],
    }
    for name, content in cases.items():
        heard = hear(write(tmp_path, b"".join(content)))
        assert not heard.gaps and not heard.cut, name
        assert heard.seconds < 20, name
        assert set(seconds_at_their_time(heard)) >= set(range(5 if name == "another stream" else SECONDS)), name


def test_a_page_that_is_lost_amid_silence_is_told_too(tmp_path: Path) -> None:
    sound = np.concatenate([tone(4.0, RATE), np.zeros(4 * RATE, np.float32), tone(4.0, RATE)])
    whole = pages(file_of("opus", sound, RATE))
    heard = hear(write(tmp_path, b"".join([*whole[:MIDDLE], *whole[MIDDLE + 1 :]])))
    assert heard.gaps == ((5.0, 6.1),) and heard.seconds == pytest.approx(SECONDS, abs=0.05)


def test_a_lost_page_is_told_where_times_jump_as_well(tmp_path: Path) -> None:
    whole = opus()
    behind = [changed(page, granule(page) + 3600 * RATE) for page in whole[MIDDLE + 1 :]]
    heard = hear(write(tmp_path, b"".join([*whole[:MIDDLE], *behind])))
    assert heard.gaps == ((5.0, 6.1),) and heard.seconds == pytest.approx(SECONDS, abs=0.1)


def remuxed(content: bytes, container: str, shift: dict[int, float]) -> bytes:
    """The same packets in another container; from some on, by their numbers, so many seconds later."""
    import io

    import av

    sink, late = io.BytesIO(), 0.0
    with av.open(io.BytesIO(content), "r") as source, av.open(sink, "w", format=container) as output:
        track = source.streams.audio[0]
        copy = output.add_stream_from_template(track)
        for number, packet in enumerate(source.demux(track)):
            if packet.size and packet.pts is not None and packet.time_base is not None:
                late += shift.get(number, 0.0)
                packet.pts += round(late / packet.time_base)
                packet.dts = packet.pts
                packet.stream = copy
                output.mux(packet)
    return sink.getvalue()


@promise("audio:gaps:told")
@pytest.mark.parametrize("container", ["webm", "matroska", "mpegts"])
def test_a_jump_in_time_is_a_gap_unless_it_is_hours(tmp_path: Path, container: str) -> None:
    content = file_of("opus", stairs(), RATE)
    heard = hear(write(tmp_path, remuxed(content, container, {300: 2.5})))
    assert heard.seconds == pytest.approx(SECONDS + 2.5, abs=0.1)
    ((start, end),) = heard.gaps
    assert start == pytest.approx(6, abs=0.15) and end == pytest.approx(8.5, abs=0.15)
    heard = hear(write(tmp_path, remuxed(content, container, {300: 20_000.0})))
    assert heard.seconds < 20 and seconds_at_their_time(heard) == list(range(SECONDS))


def test_silence_that_an_encoder_of_opus_leaves_out_is_no_loss(tmp_path: Path) -> None:
    sound = np.concatenate([tone(3.0, RATE), np.zeros(5 * RATE, np.float32), tone(3.0, RATE)])
    content = encoded(sound, RATE, "webm", "libopus", codec_options={"dtx": "1", "application": "voip"})
    heard = hear(write(tmp_path, content))
    assert heard.seconds == pytest.approx(11, abs=0.1) and not heard.gaps and not heard.cut


def test_one_time_that_is_wrong_moves_nothing() -> None:
    clock = Clock(0.0, 10.0)
    times = [0.0, 1.0, 500.0, 3.0, 4.0]
    moments = [Moment(time, 1.0) for time in times]
    for now, after in zip(moments, [*moments[1:], None], strict=True):
        assert clock.gap(now, after, False, lambda: GapLimits(3600.0, 0.0)) == (0.0, False)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0.001, 10)), max_size=50), st.floats(0, 100))
def test_whatever_times_a_file_tells_silence_is_bounded(told: list[tuple[float, float]], most: float) -> None:
    clock = Clock(0.0, most)
    moments = [Moment(*one) for one in told]
    for now, after in zip(moments, [*moments[1:], None], strict=False):
        gap, _ = clock.gap(now, after, False, lambda: GapLimits(most, 0.0))
        assert 0 <= gap <= most


def test_gaps_are_told_outwards_to_a_tenth_and_as_one_where_they_meet() -> None:
    gaps = Gaps()
    for span in [(1.04, 1.31), (1.35, 1.6), (5.0, 6.0)]:
        gaps.add(*span)
    assert gaps.spans == ((1.0, 1.6), (5.0, 6.0))


def test_pages_of_ogg_are_counted_by_their_numbers_and_checksums() -> None:
    whole = opus()
    assert all(
        ogg_checksum(page[:22] + bytes(4) + page[26:]) == int.from_bytes(page[22:26], "little") for page in whole
    )
    content = b"".join([*whole[:4], *whole[6:]])
    starts = [sum(map(len, whole[:number])) for number in range(5)]

    def peek(at: int, size: int) -> bytes:
        return content[at : at + size]

    assert lost_pages(peek, starts[3], starts[4]) == 2 and lost_pages(peek, starts[1], starts[3]) == 0
    assert lost_pages(peek, starts[3], 7) == 0


def test_frames_of_adts_are_found_behind_what_is_none() -> None:
    content = file_of("aac", tone(1.0, RATE), RATE)
    size = (content[3] & 3) << 11 | content[4] << 3 | content[5] >> 5
    shifted = b"\xff\xf1" + bytes(500) + content
    assert adts_frame(lambda at, count: shifted[at : at + count], 0, size) == 502
    assert adts_frame(lambda at, count: bytes(count), 0, size) is None
