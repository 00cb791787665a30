"""Every kind of recording, whole and cut, and what no recording is."""

import os
import socket
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from engines.media.worker.audio.decode import Recording
from engines.media.worker.audio.extent import is_partial
from engines.media.worker.source import MAX_CHANNELS
from engines.types.errors import InvalidRequest
from tests.engines.media.worker.audio.ogg import changed, pages
from tests.engines.media.worker.audio.sounds import (
    FORMATS,
    Samples,
    chunk,
    decibel,
    encoded,
    file_of,
    tone,
    wav,
    write,
)

LIMIT = 3600.0


class Heard(NamedTuple):
    samples: Samples
    seconds: float
    total: float | None
    cut: bool
    gaps: tuple[tuple[float, float], ...] = ()

    @property
    def hertz(self) -> float:
        middle = self.samples[len(self.samples) // 4 : -len(self.samples) // 4]
        spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
        return float(np.argmax(spectrum)) * 16_000 / len(middle)


def hear(path: str, limit: float = LIMIT, channel: int | None = None) -> Heard:
    with closing(Recording(path, 16_000, limit, lambda done, total: None, channel)) as recording:
        samples = np.concatenate(list(recording.blocks()))
        assert samples.dtype == np.float32 and len(samples) == round(recording.seconds * 16_000)
        return Heard(samples, recording.seconds, recording.total, recording.cut, recording.gaps)


def refusal(path: str, limit: float = LIMIT) -> str:
    with pytest.raises(InvalidRequest) as caught:
        hear(path, limit)
    assert caught.value.param == "file" and path not in caught.value.message
    return caught.value.message


LAYOUTS = ("mono", "stereo", "5.1")
PADDED = {"mp3": 0.03, "aac": 0.21, "fragmented": 0.21, "m4a": 0.13}  # encoders fill their frames


def possible(kind: str, layout: str, rate: int) -> bool:
    if FORMATS[kind][1] == "libopus" and rate not in (8_000, 24_000, 48_000):
        return False
    return not (kind == "mp3" and (layout == "5.1" or rate > 48_000))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", FORMATS)
def test_formats_channels_and_rates_are_told_by_content(tmp_path: Path, kind: str, layout: str) -> None:
    """The sound keeps its length, its pitch and its level; the name says something else each time."""
    for name, rate in [("a.mp3", 8_000), ("b.wav", 16_000), ("音频.pdf", 24_000), ("..m3u8", 44_100), ("blob", 48_000)]:
        if possible(kind, layout, rate):
            heard = hear(write(tmp_path, file_of(kind, tone(1.5, rate, 500, 0.2), rate, layout), name))
            assert 1.5 - 0.01 <= heard.seconds <= 1.51 + PADDED.get(kind, 0.0)
            assert heard.hertz == pytest.approx(500, abs=3)
            low = 1.6 if FORMATS[kind][1] == "aac" and layout == "5.1" else 0.0  # its subwoofer plays deep tones alone
            assert decibel(heard.samples[4000:20_000]) == pytest.approx(decibel(tone(1, level=0.2)) - low, abs=0.6)
            assert not heard.cut
            assert heard.total is None or heard.total == pytest.approx(heard.seconds, abs=0.15)


def test_waves_of_all_depths_and_headers(tmp_path: Path) -> None:
    sound = tone(1.0, 44_100, 500, 0.2)
    waves = {
        "8": wav(sound, 44_100, 8),
        "24": wav(sound, 44_100, 24),
        "32": wav(sound, 44_100, 32),
        "float": wav(sound, 44_100, 32, is_float=True),
        "double": wav(sound, 44_100, 64, is_float=True),
        "extensible": wav(sound, 44_100, 24, 2, extensible=True),
        "extensible float": wav(sound, 44_100, 32, 2, extensible=True, is_float=True),
        "six channels": wav(sound, 44_100, 16, 6),
        "three channels": wav(sound, 44_100, 16, 3),
        "sixteen channels": wav(sound, 44_100, 16, 16),
        "odd end": wav(sound, 44_100) + b"x",
        "list before": wav(sound, 44_100, before=chunk(b"LIST", b"INFOISFT\x05\0\0\0Lavf1")),
        "list after": wav(sound, 44_100, after=chunk(b"LIST", b"INFOISFT\x05\0\0\0Lavf1")),
        "size 0": wav(sound, 44_100, size=0),
        "size unknown": wav(sound, 44_100, size=0xFFFFFFFF),
        "size unknown, signed": wav(sound, 44_100, size=0x7FFFFFFF),
        "size unknown, less the header": wav(sound, 44_100, size=0xFFFFFFFF - 44),
        "streamed": encoded(sound, 44_100, "wav", "pcm_s16le", streamed=True),
    }
    for name, content in waves.items():
        heard = hear(write(tmp_path, content))
        assert heard.seconds == pytest.approx(1.0, abs=0.002), name
        assert heard.hertz == pytest.approx(500, abs=3), name
        assert decibel(heard.samples) == pytest.approx(decibel(tone(1, level=0.2)), abs=0.4), name
        assert not heard.cut, name
    assert hear(write(tmp_path, wav(tone(1.0, 44_100), 44_100, 24)[:-1])).cut


@pytest.mark.parametrize("kind", ["mp3", "flac", "opus", "webm", "mkv", "aac"])
def test_streamed_files_that_do_not_say_how_long_they_are(tmp_path: Path, kind: str) -> None:
    heard = hear(write(tmp_path, file_of(kind, tone(2.0, 48_000), 48_000, streamed=True)))
    assert heard.seconds == pytest.approx(2.0, abs=0.06) and not heard.cut


@pytest.mark.parametrize("where", ["beginning", "end"])
def test_films_are_heard_wherever_their_index_is(tmp_path: Path, where: str) -> None:
    content = encoded(tone(2.0, 48_000), 48_000, "mp4", "aac", video=True)
    assert content.index(b"mdat") < content.index(b"moov")
    if where == "beginning":
        content = _index_first(content)
    heard = hear(write(tmp_path, content))
    assert heard.seconds == pytest.approx(2.0, abs=0.03) and not heard.cut
    assert refusal(write(tmp_path, encoded(tone(0.1), 16_000, "mp4", "aac", video=True)[:400]))


def _index_first(content: bytes) -> bytes:
    """The boxes in another order, and the offsets in the index moved by as much."""
    at, boxes = 0, {}
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        boxes[content[at + 4 : at + 8]] = content[at : at + size]
        at += size
    index = bytearray(boxes.pop(b"moov"))
    at = -1
    while (at := index.find(b"stco", at + 1)) >= 0:
        for entry in range(int.from_bytes(index[at + 8 : at + 12], "big")):
            where = at + 12 + 4 * entry
            index[where : where + 4] = (int.from_bytes(index[where : where + 4], "big") + len(index)).to_bytes(4, "big")
    return boxes.pop(b"ftyp") + bytes(index) + b"".join(boxes.values())


@pytest.mark.parametrize("kind", ["mkv", "mp4"])
def test_sound_that_begins_later_than_the_pictures_is_at_its_true_time(tmp_path: Path, kind: str) -> None:
    container, codec = ("matroska", "flac") if kind == "mkv" else ("mp4", "aac")
    heard = hear(write(tmp_path, encoded(tone(2.0, 48_000), 48_000, container, codec, video=True, delay=3.0)))
    assert heard.seconds == pytest.approx(5.0, abs=0.05) and heard.total == pytest.approx(5.0, abs=0.05)
    assert not heard.samples[: int(2.9 * 16_000)].any() and decibel(heard.samples[50_000:]) > -20


def test_parameters_may_change_in_mid_stream(tmp_path: Path) -> None:
    """As in files that were joined with `cat`."""
    for kind, (first, second) in {"mp3": (44_100, 22_050), "aac": (44_100, 24_000)}.items():
        parts = [(first, "mono"), (second, "mono"), (first, "stereo")]
        files = [file_of(kind, tone(2.0, rate, 500), rate, layout, streamed=True) for rate, layout in parts]
        heard = hear(write(tmp_path, b"".join(files)))
        assert heard.seconds == pytest.approx(6.0, abs=0.4), kind
        assert heard.hertz == pytest.approx(500, abs=8), kind


def test_ogg_files_that_follow_each_other_are_heard_as_one(tmp_path: Path) -> None:
    """Where the library can't go on, since the number of channels changes, it is said that something is missing."""
    mono = file_of("opus", tone(2.0, 48_000, 500), 48_000, streamed=True)
    stereo = file_of("opus", tone(2.0, 48_000, 500), 48_000, "stereo", streamed=True)
    heard = hear(write(tmp_path, mono + _renumbered(mono, 2) + _renumbered(mono, 3)))
    assert heard.seconds == pytest.approx(6.0, abs=0.05) and not heard.cut
    heard = hear(write(tmp_path, mono + _renumbered(stereo, 2)))
    assert heard.seconds == pytest.approx(2.0, abs=0.05) and heard.cut


def _renumbered(ogg: bytes, serial: int) -> bytes:
    """Streams that follow each other in one file have different numbers."""
    return b"".join(changed(page, serial=serial) for page in pages(ogg))


CUTTABLE = ["wav", "mp3", "fragmented", "flac", "opus", "webm", "mkv", "aac", "aiff"]


@pytest.mark.parametrize("kind", CUTTABLE)
def test_of_a_file_that_is_cut_off_what_is_there_is_given_and_it_is_said(tmp_path: Path, kind: str) -> None:
    content = file_of(kind, tone(6.0, 48_000), 48_000)
    for part in (0.3, 0.7, 0.95):
        heard = hear(write(tmp_path, content[: int(len(content) * part)]))
        assert heard.cut, part
        assert part * 6 - 1.2 <= heard.seconds <= part * 6 + 0.3


def test_a_film_with_its_index_first_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    content = _index_first(encoded(tone(4.0, 48_000), 48_000, "mp4", "aac", video=True))
    heard = hear(write(tmp_path, content[: len(content) * 7 // 10]))
    assert heard.cut and 1.0 < heard.seconds < 3.5


@pytest.mark.parametrize("kind", ["mp3", "aac", "flac"])
def test_a_streamed_file_that_ends_within_a_frame_is_cut(tmp_path: Path, kind: str) -> None:
    content = file_of(kind, tone(4.0, 44_100) + tone(4.0, 44_100, 3000, 0.1), 44_100, streamed=True)
    heard = hear(write(tmp_path, content[: len(content) * 6 // 10 + 5]))
    assert heard.cut and heard.seconds == pytest.approx(2.4, abs=0.3)


def test_tags_behind_and_before_the_sound_are_no_damage(tmp_path: Path) -> None:
    old = b"TAG" + b"title".ljust(125, b"\0")
    ape = b"APETAGEX" + (2000).to_bytes(4, "little") + (32).to_bytes(4, "little") + b"\0" * 16
    picture = b"ID3\x03\0\0" + bytes((0, 0x7F, 0, 0)) + b"\0" * (0x7F << 14)  # 2 MB
    for kind in ("mp3", "aac"):
        content = file_of(kind, tone(2.0, 44_100), 44_100)
        for tagged in (content + old, content + ape, picture + content, picture + content + ape + old):
            heard = hear(write(tmp_path, tagged))
            assert heard.seconds == pytest.approx(2.0, abs=0.1) and not heard.cut


@pytest.mark.parametrize("kind", ["mp3", "fragmented", "flac", "opus", "webm", "aac"])
def test_damage_within_a_file_costs_what_is_damaged(tmp_path: Path, kind: str) -> None:
    content = bytearray(file_of(kind, tone(8.0, 48_000), 48_000))
    random = np.random.default_rng(3)
    for at in random.integers(len(content) // 4, len(content) * 3 // 4, len(content) // 400):
        content[at] ^= 0x5A
    try:
        heard = hear(write(tmp_path, bytes(content)))
    except InvalidRequest:
        pytest.fail("nothing could be decoded")
    assert 2.0 <= heard.seconds <= 9.0 and np.isfinite(heard.samples).all() and np.abs(heard.samples).max() <= 1


def test_samples_that_are_not_numbers_are_silence_and_others_are_kept_within_bounds(tmp_path: Path) -> None:
    sound = tone(1.0, 16_000)
    sound[4000:4100], sound[8000], sound[12_000:12_100] = np.nan, np.inf, 1e30
    heard = hear(write(tmp_path, wav(sound, 16_000, 32, is_float=True)))
    assert np.isfinite(heard.samples).all() and np.abs(heard.samples).max() <= 1
    assert not heard.samples[4000:4100].any() and heard.samples[8000] == 0


def test_channels_of_no_usual_place_are_read(tmp_path: Path) -> None:
    odd = wav(tone(1.0, level=0.2), 16_000, 16, 2, extensible=True)
    odd = odd[:40] + (0x900).to_bytes(4, "little") + odd[44:]  # loudspeakers in the back and in the ceiling
    assert decibel(hear(write(tmp_path, odd)).samples) == pytest.approx(decibel(tone(1.0, level=0.2)), abs=0.1)


def test_a_loud_recording_in_stereo_is_not_clipped(tmp_path: Path) -> None:
    heard = hear(write(tmp_path, wav(tone(1.0, 44_100, 500, 0.99), 44_100, 16, 2)))
    assert decibel(heard.samples) == pytest.approx(decibel(tone(1.0, level=0.99)), abs=0.05)


def test_what_is_no_recording_is_refused_with_the_reason(tmp_path: Path) -> None:
    random = np.random.default_rng(1).bytes(100_000)
    cases = {
        "empty": (b"", "empty"),
        "text": (b"hello world\n" * 1000, "a text (12,000 bytes)"),
        "Chinese text": ("你好，世界\n".encode() * 3000, "a text ("),
        "page": (b"<!doctype html><html><body>hello</body></html>", "a web page (46 bytes)"),
        "JSON": (b'{"error": "no file"}', "a text (JSON)"),
        "document": (b"%PDF-1.7\n" + random, "a PDF document"),
        "archive": (b"PK\x03\x04" + random, "a zip archive"),
        "photo": (b"\xff\xd8\xff\xe0" + random, "a picture (JPEG)"),
        "voice message": (b"\x02#!SILK_V3" + random, "SILK"),
        "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        "zeros": (bytes(100_000), "zero bytes"),
        "random": (random, f"first bytes are {random[:8].hex(' ')}"),
        "header only": (wav(tone(0.0), 16_000), "no sound"),
        "header cut": (wav(tone(1.0), 16_000)[:30], "a WAV file, but damaged or not complete (30 bytes)"),
        "index missing": (file_of("m4a", tone(1.0), 16_000)[:4000], "without its index"),
        "index cut": (file_of("m4a", tone(1.0), 16_000)[:-500], "damaged"),
        "picture": (_picture(), "a picture (PNG)"),
        "film without a track": (_film(), "no audio track"),
        "one byte": (b"R", "a text (1 bytes)"),
        "channels": (wav(tone(0.1), 16_000, 8, MAX_CHANNELS + 1), ""),
        "rate": (wav(tone(0.1), 10), "samples a second"),
        "high rate": (wav(tone(0.1), 2_000_000_000, 8), "samples a second"),
    }
    for name, (content, reason) in cases.items():
        assert reason in (message := refusal(write(tmp_path, content))), name
        assert "can be read" in message or name in ("empty", "header only", "film without a track", "channels"), name
        assert len(message) < 700


def _film() -> bytes:
    """Pictures alone."""
    import io

    import av

    sink = io.BytesIO()
    with av.open(sink, "w", format="matroska") as output:
        pictures = output.add_stream("mpeg4", rate=10)
        pictures.width = pictures.height = 64
        output.mux(pictures.encode(av.VideoFrame(64, 64, "yuv420p")))
        output.mux(pictures.encode(None))
    return sink.getvalue()


def _picture() -> bytes:
    import io

    import av

    sink = io.BytesIO()
    with av.open(sink, "w", format="image2pipe") as output:
        stream = output.add_stream("png", rate=1)
        stream.width = stream.height = 64
        stream.pix_fmt = "rgb24"
        output.mux(stream.encode(av.VideoFrame(64, 64, "rgb24")))
        output.mux(stream.encode(None))
    return sink.getvalue()


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "folder" in refusal(str(tmp_path))
    assert "pipe" in refusal(str(tmp_path / "pipe"))  # nobody will ever write into it
    assert "device" in refusal("/dev/zero")
    assert "no such file" in refusal(str(tmp_path / "missing"))
    assert "no such file" in refusal("\0")
    for address in ("http://127.0.0.1:9/a.wav", "file:/etc/hostname", "concat:a|b", "data:audio/wav;base64,AAAA"):
        assert "no such file" in refusal(address)


def test_no_file_makes_us_open_another_one_or_an_address(tmp_path: Path) -> None:
    """Playlists and the like: each would play the secret recording, or ask the address."""
    secret = write(tmp_path, wav(tone(1.0), 16_000), "secret.wav")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        base = f"http://127.0.0.1:{server.getsockname()[1]}/"
        for target in (secret, f"file:{secret}", "secret.wav", base + "a.wav"):
            playlists = {
                "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
                "concat": f"ffconcat version 1.0\nfile '{target}'\n",
                "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
                f'<AdaptationSet mimeType="audio/mp4"><Representation id="1"><BaseURL>{target}</BaseURL>'
                "</Representation></AdaptationSet></Period></MPD>",
                "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
                "m3u": f"#EXTM3U\n{target}\n",
                "pls": f"[playlist]\nFile1={target}\n",
                "smil": f'<smil><body><audio src="{target}"/></body></smil>',
                "imf": f'<AssetMap xmlns="x"><Path>{target}</Path></AssetMap>',
            }
            for content in playlists.values():
                assert "What can be read" in refusal(write(tmp_path, content.encode(), "recording.wav"))
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_film_whose_sound_is_said_to_be_in_another_file_does_not_open_it(tmp_path: Path) -> None:
    """A data reference of MP4 names any file."""
    secret = write(tmp_path, file_of("mov", tone(1.0, 48_000), 48_000), "secret.mov")
    content = file_of("mov", tone(1.0, 48_000), 48_000)
    entry = b"\0\0\0\x0calis\0\0\0\x01"
    assert entry in content or b"url \0\0\0\x01" in content
    for reference in (b"url \0\0\0\0" + secret.encode() + b"\0", b"url \0\0\0\0" + b"file:" + secret.encode() + b"\0"):
        at = content.find(entry)
        old = entry if at >= 0 else b"\0\0\0\x0curl \0\0\0\x01"
        new = (len(reference) + 4).to_bytes(4, "big") + reference
        changed = _replaced(content, old, new)
        try:
            heard = hear(write(tmp_path, changed.replace(b"mdat", b"skip")))
        except InvalidRequest:
            continue
        assert heard.seconds <= 1.1


def _replaced(content: bytes, old: bytes, new: bytes) -> bytes:
    """Another entry in the boxes of an index, whose sizes grow by as much."""
    at = content.index(old)
    grown = bytearray(content[:at] + new + content[at + len(old) :])
    for name in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        where = content.rindex(name, 0, at) - 4
        size = int.from_bytes(grown[where : where + 4], "big") + len(new) - len(old)
        grown[where : where + 4] = size.to_bytes(4, "big")
    return bytes(grown)


def test_a_recording_beyond_the_limit_is_refused_at_once_or_when_it_is_met(tmp_path: Path) -> None:
    for kind, streamed in [("wav", False), ("flac", False), ("flac", True), ("mp3", True), ("webm", True)]:
        path = write(tmp_path, file_of(kind, tone(12.0, 48_000), 48_000, streamed=streamed))
        assert "longer than 10 seconds" in refusal(path, limit=10.0)
        assert hear(path, limit=12.1).seconds == pytest.approx(12.0, abs=0.1)


def test_a_small_file_that_holds_much_silence_meets_the_limit(tmp_path: Path) -> None:
    bomb = file_of("flac", np.zeros(8_000 * 1200, np.float32), 8_000, streamed=True)
    assert len(bomb) < 500_000
    assert "longer than 600 seconds" in refusal(write(tmp_path, bomb), limit=600.0)


def test_whoever_asks_may_end_it_at_any_moment(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    steps: list[float] = []

    def check(done: float, total: float | None) -> None:
        steps.append(done)
        if len(steps) == 20:
            raise Enough

    path = write(tmp_path, wav(tone(60.0), 16_000))
    with closing(Recording(path, 16_000, LIMIT, check)) as recording, pytest.raises(Enough):
        for _ in recording.blocks():
            pass
    assert len(steps) == 20 and steps == sorted(steps) and steps[-1] < 10


def test_an_mp3_frame_that_is_shorter_than_it_says_is_told() -> None:
    header = bytes((0xFF, 0xFB, 0x90, 0x00))  # MPEG 1, 128 kbit/s, 44.1 kHz: 417 bytes
    assert is_partial(header, 416) and not is_partial(header, 417)
    assert is_partial(bytes((0xFF, 0xF3, 0x80, 0x00)), 208 - 1)  # MPEG 2, 64 kbit/s, 22.05 kHz: 208 bytes
    assert not is_partial(bytes((0xFF, 0xF3, 0x80, 0x00)), 208)
    assert not is_partial(b"\0\0\0\0", 1) and not is_partial(b"", 0) and not is_partial(b"\xff\xfb\xf0\0", 1)
