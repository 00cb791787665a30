"""Several audio tracks in a file: which one is heard, and what is said of it."""

import asyncio
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from engines.ipc.media_protocol import PieceOptions
from engines.media.client import Media, Selection
from engines.media.worker.audio import listen
from engines.media.worker.audio.decode import Recording
from engines.media.worker.audio.listen import PieceSource, with_sound
from engines.types.errors import InvalidRequest
from tests.engines.media.test_client import all_of, run
from tests.engines.media.worker.audio.films import Track, film
from tests.engines.media.worker.audio.sounds import Samples, noise, speechlike, tone, wav, write
from tests.promises import promise

QUIET = np.zeros(3 * 16_000, np.float32)


def hertz(samples: bytes) -> float:
    sound = np.frombuffer(samples, "<f4")
    return float(np.argmax(np.abs(np.fft.rfft(sound * np.hanning(len(sound)))))) * 16_000 / len(sound)


def beeps(hertz: float, seconds: float = 3.0) -> Samples:
    """A tone of its own, with pauses as in speech."""
    return tone(seconds, 16_000, hertz) * (np.arange(round(seconds * 16_000)) % 8000 < 5000)


def heard(path: str, *numbers: int | None) -> list[tuple[int, int, int]]:
    """For each number of a track: the pitch that is heard, to ten hertz, which track it is, and how many there are."""
    told: list[tuple[int, int, int]] = []

    async def body(media: Media) -> None:
        for number in numbers:
            pieces, ending = await all_of(media, path, selection=Selection(track=number))
            clip = await media.decode(path, 16_000, 60.0, Selection(track=number))
            assert (clip.track, clip.tracks) == (ending.track, ending.tracks)
            told.append((round(hertz(pieces[0].samples) / 10) * 10 if pieces else 0, ending.track, ending.tracks))

    run(body)
    return told


@promise("audio:tracks:chosen")
@pytest.mark.parametrize("container", ["matroska", "mp4"])
def test_the_default_track_is_heard_or_the_one_that_is_asked_for(tmp_path: Path, container: str) -> None:
    tracks = Track(beeps(500), "eng"), Track(beeps(900), "yue", is_default=True), Track(beeps(1300), "zho")
    codec = "flac" if container == "matroska" else "aac"
    path = write(tmp_path, film(*tracks, container=container, codec=codec))
    assert heard(path, None, 1, 2, 3) == [(900, 2, 3), (500, 1, 3), (900, 2, 3), (1300, 3, 3)]


@promise("audio:tracks:chosen")
def test_a_track_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = write(tmp_path, film(Track(beeps(500), "eng", "Commentary"), Track(beeps(900), "yue")))
    for number in (0, 3, -1, 99):
        with pytest.raises(InvalidRequest, match=r"1 \(eng, Commentary, flac\), 2 \(yue, flac\)") as caught:
            Recording(path, 16_000, 60.0, lambda *_: None, track=number)
        assert caught.value.param == "track"


@promise("audio:tracks:chosen")
@pytest.mark.parametrize("silence", [QUIET, noise(3.0, 1e-5)])
def test_a_track_without_sound_yields_to_the_next_that_has_some(tmp_path: Path, silence: Samples) -> None:
    path = write(tmp_path, film(Track(silence, is_default=True), Track(silence), Track(beeps(900))))
    assert heard(path, None, 1) == [(900, 3, 3), (0, 1, 3)]
    assert heard(write(tmp_path, film(Track(silence), Track(silence)), "silent"), None) == [(0, 1, 2)]


def test_ten_minutes_are_tried_and_nothing_that_is_heard_is_decoded_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "TRIED_SECONDS", 20.0)
    late = np.concatenate([np.zeros(40 * 16_000, np.float32), beeps(500, 20.0)])
    decoded: list[Recording] = []

    def listener(track: int | None) -> PieceSource:
        decoded.append(Recording(path, 16_000, 3600.0, lambda *_: None, track=track))
        return PieceSource(decoded[-1], PieceOptions())

    for tracks, chosen, seconds in (
        ((Track(late), Track(beeps(900))), 2, [20.0, 3.0]),
        ((Track(late), Track(QUIET)), 1, [60.0, 3.0]),
        ((Track(beeps(500, 60.0)), Track(beeps(900))), 1, [60.0]),
    ):
        path = write(tmp_path, film(*tracks))
        decoded.clear()
        found = with_sound(listener, None)
        assert found.recording.track == chosen and list(found.parts())
        assert [round(recording.seconds, 1) for recording in decoded] == pytest.approx(seconds, abs=0.6)
        for recording in decoded:
            recording.close()


def test_channels_are_given_separately_or_one_by_its_number(tmp_path: Path) -> None:
    first, second = beeps(500), np.concatenate([np.zeros(16_000, np.float32), beeps(900, 2.0)])
    content = wav(np.stack([first, second]).T.reshape(-1), 16_000, 16, 2, apart=True)
    path = write(tmp_path, content)

    async def body(media: Media) -> None:
        pieces, ending = await all_of(media, path, selection=Selection(channels="separate"))
        assert [(piece.channel, round(hertz(piece.samples), -1)) for piece in pieces] == [(1, 500), (2, 900)]
        assert pieces[0].start == 0 and 0.4 < pieces[1].start < 1.0
        assert ending.seconds == 3.0
        for number, expected in ((1, 500), (2, 900)):
            (piece,), _ = await all_of(media, path, selection=Selection(channels=number))
            assert piece.channel == 0 and hertz(piece.samples) == pytest.approx(expected, abs=8)
        with pytest.raises(InvalidRequest, match="2 channels"):
            await all_of(media, path, selection=Selection(channels=3))

    run(body)


def test_separate_channels_take_no_more_memory_than_is_allowed_for(tmp_path: Path) -> None:
    path = write(tmp_path, wav(np.tile(speechlike(1.0), 1), 16_000, 16, 17))
    with closing(Recording(path, 16_000, 60.0, lambda *_: None)) as recording:
        listener = PieceSource(recording, PieceOptions(selection=Selection(channels="separate")))
        with pytest.raises(InvalidRequest, match="At most 16") as caught:
            list(listener.parts())
    assert caught.value.param == "channels"


def test_a_recording_of_one_track_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, wav(beeps(500), 16_000))

    async def body() -> None:
        async with Media() as media:
            _, ending = await all_of(media, path)
            assert (ending.track, ending.tracks) == (1, 1)

    asyncio.run(body())
