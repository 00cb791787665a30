"""Every container and codec that the library can both write and read here, and small files of those that it can't."""

from pathlib import Path

import av
import pytest

from engines.media.formats import CODECS, DEMUXERS, FORMATS, KINDS
from tests.engines.media.worker.audio.sounds import encoded, tone, write
from tests.engines.media.worker.audio.test_decode import hear
from tests.promises import promise

WRITTEN = {
    "wma": ("asf", "wmav2", 44_100),
    "wmv": ("asf", "wmav1", 44_100),
    "avi with mp3": ("avi", "libmp3lame", 44_100),
    "avi with pcm": ("avi", "pcm_s16le", 44_100),
    "ts with aac": ("mpegts", "aac", 48_000),
    "ts with mp2": ("mpegts", "mp2", 48_000),
    "mpg": ("mpeg", "mp2", 48_000),
    "flv with mp3": ("flv", "libmp3lame", 44_100),
    "flv with nellymoser": ("flv", "nellymoser", 22_050),
    "3gp": ("3gp", "libopencore_amrnb", 8_000),
    "amr": ("amr", "libopencore_amrnb", 8_000),
    "alac in caf": ("caf", "alac", 44_100),
    "ima in caf": ("caf", "adpcm_ima_qt", 44_100),
    "w64": ("w64", "pcm_s16le", 44_100),
    "au": ("au", "pcm_s16be", 44_100),
    "voc": ("voc", "pcm_u8", 8_000),
    "ac3": ("ac3", "ac3", 48_000),
    "eac3 in mkv": ("matroska", "eac3", 48_000),
    "tta": ("tta", "tta", 44_100),
    "wavpack": ("wv", "wavpack", 44_100),
    "nut": ("nut", "flac", 44_100),
    "latm": ("latm", "aac", 44_100),
    "g726 in wav": ("wav", "g726", 8_000),
    "µ-law in wav": ("wav", "pcm_mulaw", 8_000),
    "RealAudio": ("rm", "ac3", 48_000),
    "64 bits in w64": ("w64", "pcm_s64le", 44_100),
}


@promise("audio:kinds:read")
@pytest.mark.parametrize("name", WRITTEN)
def test_usual_containers_and_codecs_are_read(tmp_path: Path, name: str) -> None:
    container, codec, rate = WRITTEN[name]
    options = {"b": "64000"} if codec.startswith("wma") else None
    heard = hear(write(tmp_path, encoded(tone(2.0, rate, 500), rate, container, codec, codec_options=options)))
    assert heard.seconds == pytest.approx(2.0, abs=0.1) and heard.hertz == pytest.approx(500, abs=6)
    assert not heard.cut and not heard.gaps


FILES = sorted((Path(__file__).parent / "files").iterdir())


@promise("audio:kinds:read")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_codecs_that_only_others_write_are_read(path: Path) -> None:
    """A second of 500 Hz each: DTS and TrueHD, alone and in a film."""
    heard = hear(str(path))
    assert heard.seconds == pytest.approx(1.0, abs=0.08) and heard.hertz == pytest.approx(500, abs=12)


def test_the_library_knows_all_that_is_said_to_be_read() -> None:
    for codec in CODECS:
        av.codec.Codec(codec, "r")
    for demuxer in DEMUXERS:
        assert av.ContainerFormat(demuxer, "r").is_input
    assert all(name in KINDS for name in FORMATS)


def test_nothing_that_names_other_files_is_read() -> None:
    naming = {
        "hls",
        "concat",
        "dash",
        "sdp",
        "rtsp",
        "rtp",
        "sap",
        "imf",
        "image2",
        "image2pipe",
        "tee",
        "lavfi",
        "vobsub",
    }
    assert not naming & set(DEMUXERS) and not {"wavesynth", "anull"} & set(CODECS)
