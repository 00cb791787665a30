"""Recordings for tests: signals of known shape, and files of them in every format, made with the library."""

import io
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


def tone(seconds: float, rate: int = 16_000, hertz: float = 440.0, level: float = 0.3) -> Samples:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(seconds: float, level: float, rate: int = 16_000, seed: int = 0) -> Samples:
    """White, of an effective level."""
    return np.random.default_rng(seed).normal(0, level, round(seconds * rate)).astype(np.float32)


def speechlike(seconds: float, level: float = 0.2, rate: int = 16_000, seed: int = 0) -> Samples:
    """Noise whose loudness goes up and down four times a second, by 25 dB, as that of speech does."""
    time = np.arange(round(seconds * rate)) / rate
    swing = 10 ** (1.25 * (np.cos(2 * np.pi * 4 * time) - 1) / 2)
    return (noise(seconds, level, rate, seed) * swing).astype(np.float32)


def decibel(samples: NDArray[Any]) -> float:
    return float(10 * np.log10(np.mean(samples.astype(np.float64) ** 2) + 1e-12))


class Forward:
    """A file that can't be sought in, as a network connection."""

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, data: bytes) -> int:
        self.written += data
        return len(data)


def encoded(
    samples: Samples,
    rate: int,
    container: str,
    codec: str,
    layout: str = "mono",
    streamed: bool = False,
    video: bool = False,
    delay: float = 0.0,
    options: dict[str, str] | None = None,
    apart: bool = False,
    codec_options: dict[str, str] | None = None,
) -> bytes:
    """A file of these samples, the same in all channels, or `apart`: theirs in turn.

    `delay`: how much later than its pictures it begins.
    """
    sink: Any = Forward() if streamed else io.BytesIO()
    with av.open(sink, "w", format=container, options=options or {}) as output:
        sound: Any = output.add_stream(codec, rate=rate, layout=layout, options=codec_options)
        if video:
            _add_pictures(output, delay + len(samples) / rate)
        channels = len(av.AudioLayout(layout).channels)
        wide = samples if apart else np.repeat(samples, channels)
        frame = av.AudioFrame.from_ndarray(wide.reshape(1, -1), "flt", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        size = sound.codec_context.frame_size or 1024
        converter = av.AudioResampler(sound.codec_context.format, layout, rate, frame_size=size)
        position = round(delay * rate)
        converted = [*converter.resample(frame), *converter.resample(None)] if len(samples) else []
        for part in [*converted, None]:
            if part is not None:
                part.pts, part.time_base = position, Fraction(1, rate)
                position += part.samples
            output.mux(sound.encode(part))
    return bytes(sink.written) if streamed else sink.getvalue()


def _add_pictures(output: Any, seconds: float) -> None:
    pictures = output.add_stream("mpeg4", rate=10)
    pictures.width = pictures.height = 64
    for number in range(round(seconds * 10)):
        picture = av.VideoFrame(64, 64, "yuv420p")
        picture.pts = number
        output.mux(pictures.encode(picture))
    output.mux(pictures.encode(None))


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(content) if size is None else size) + content + b"\0" * (len(content) % 2)


def wav(
    samples: Samples, rate: int, bits: int = 16, channels: int = 1, *, is_float: bool = False, extensible: bool = False,
    before: bytes = b"", after: bytes = b"", size: int | None = None, apart: bool = False,
) -> bytes:  # fmt: skip
    """Written by hand, so that it may have what no library writes; `size` is what the header says, `apart` as above."""
    wide = (samples if apart else np.repeat(samples, channels)).astype(np.float64)
    if is_float:
        data = wide.astype(f"<f{bits // 8}").tobytes()
    elif bits == 8:
        data = (wide * 127 + 128).astype(np.uint8).tobytes()
    else:
        data = (wide * (2 ** (bits - 1) - 1)).astype("<i4").view(np.uint8).reshape(-1, 4)[:, : bits // 8].tobytes()
    tag = 3 if is_float else 1
    form = (rate, rate * channels * bits // 8, channels * bits // 8, bits)
    head = struct.pack("<HHIIHH", 0xFFFE if extensible else tag, channels, *form)
    if extensible:
        guid = struct.pack("<H", tag) + bytes.fromhex("000000001000800000aa00389b71")
        head += struct.pack("<HHI", 22, bits, 0) + guid
    body = before + chunk(b"fmt ", head) + chunk(b"data", data, size) + after
    return b"RIFF" + struct.pack("<I", 0xFFFFFFFF if size is not None else 4 + len(body)) + b"WAVE" + body


FORMATS: dict[str, tuple[str, str, dict[str, str]]] = {
    "wav": ("wav", "pcm_s16le", {}),
    "mp3": ("mp3", "libmp3lame", {}),
    "m4a": ("ipod", "aac", {}),
    "alac": ("ipod", "alac", {}),
    "fragmented": ("mp4", "aac", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    "mov": ("mov", "pcm_s16le", {}),
    "flac": ("flac", "flac", {}),
    "opus": ("ogg", "libopus", {}),
    "webm": ("webm", "libopus", {}),
    "mkv": ("matroska", "flac", {}),
    "aac": ("adts", "aac", {}),
    "aiff": ("aiff", "pcm_s16be", {}),
}


def file_of(kind: str, samples: Samples, rate: int, layout: str = "mono", **more: Any) -> bytes:
    container, codec, options = FORMATS[kind]
    return encoded(samples, rate, container, codec, layout, options=options, **more)


def write(folder: Path, content: bytes, name: str = "recording") -> str:
    path = folder / name
    path.write_bytes(content)
    return str(path)
