"""Files of sound, made of float32 samples as they come: whole ones with true sizes, or bytes as they are made."""

import math
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from typing import IO, Any, NamedTuple

import av
import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from engines.media.worker.audio.tempo import FASTEST, SLOWEST, Tempo
from engines.types.audio import SoundFormat
from engines.types.errors import InternalError, InvalidRequest

Samples = NDArray[np.float32]

IN_MEMORY = 16 << 20  # bytes of a whole file; what is beyond lies on the disk
READ_BYTES = 1 << 20
UNKNOWN_SIZE = 0xFFFFFFFF
LARGEST_WAV = UNKNOWN_SIZE - 44
COMMON_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


class FileCodec(NamedTuple):
    """How the library calls it; its sample format; what rates it takes; bits a second, from 16,000 Hz and below it."""

    container: str
    encoder: str
    samples: str
    rates: tuple[int, ...] = COMMON_RATES
    bits: tuple[int, int] | None = None
    options: tuple[tuple[str, str], ...] = ()


# AAC, and MP3 that is streamed, have no place to say what their encoders add: 50 to 90 ms of silence at 24,000 Hz.
# Bit rates at which one channel of speech has no audible loss. Pages of Ogg are a tenth of a second, else the first
# sound would wait for a second's worth.
CODECS: dict[SoundFormat, FileCodec] = {
    "mp3": FileCodec("mp3", "libmp3lame", "fltp", bits=(96_000, 48_000)),
    "flac": FileCodec("flac", "flac", "s16", rates=(*COMMON_RATES, 88_200, 96_000)),
    "opus": FileCodec(
        "ogg",
        "libopus",
        "flt",
        (8_000, 12_000, 16_000, 24_000, 48_000),
        (64_000, 32_000),
        (("page_duration", "100000"),),
    ),
    "aac": FileCodec("adts", "aac", "fltp", bits=(96_000, 32_000)),
}
PLAIN_RATES = (*COMMON_RATES, 88_200, 96_000)  # of wav and pcm


def rate_for(format: SoundFormat, rate_in: int, rate_out: int | None) -> int:
    """The rate of the file: what is asked for, which must be possible, else the next that is."""
    rates = CODECS[format].rates if format in CODECS else PLAIN_RATES
    if rate_out is None:
        return next((rate for rate in rates if rate >= rate_in), rates[-1])
    if rate_out not in rates:
        listed = ", ".join(map(str, rates))
        raise InvalidRequest(
            f"{format} can't have {rate_out} samples a second; it can have {listed}.", param="sample_rate"
        )
    return rate_out


class FileEncoder:
    """A file of one channel. `feed` gives what bytes are there already, `finish` the rest; all of them, if `whole`."""

    def __init__(self, format: SoundFormat, rate_in: int, rate_out: int | None, speed: float, whole: bool) -> None:
        if not (math.isfinite(speed) and SLOWEST <= speed <= FASTEST):
            raise InvalidRequest(f"The speed must be from {SLOWEST} to {FASTEST}.", param="speed")
        rate = rate_for(format, rate_in, rate_out)
        self._tempo = Tempo(rate_in, rate, speed)
        self._whole = whole
        self._sink: IO[bytes] = tempfile.SpooledTemporaryFile(IN_MEMORY) if whole else Pipe()  # type: ignore[assignment]
        self._file = (
            Coded(CODECS[format], rate, self._sink)
            if format in CODECS
            else Plain(rate, self._sink, header=format == "wav", whole=whole)
        )

    def feed(self, samples: Samples) -> bytes:
        if not np.isfinite(samples).all():
            raise InternalError("The sound that was made holds values that aren't numbers, so it can't be written.")
        for block in self._tempo.feed(samples):
            self._file.write(np.clip(block, -1.0, 1.0))
        return b"" if self._whole else self._taken()

    def finish(self) -> Iterator[bytes]:
        for block in self._tempo.finish():
            self._file.write(np.clip(block, -1.0, 1.0))
        self._file.close()
        if not self._whole:
            yield self._taken()
            return
        self._sink.seek(0)
        while data := self._sink.read(READ_BYTES):
            yield data

    def close(self) -> None:
        self._sink.close()

    def _taken(self) -> bytes:
        assert isinstance(self._sink, Pipe)
        return self._sink.take()


class Pipe:
    """A file that can only be written, and what was written taken out of it."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def take(self) -> bytes:
        taken, self._written = bytes(self._written), bytearray()
        return taken

    def close(self) -> None:
        pass


class Plain:
    """wav or bare samples: 16 bits, little-endian."""

    def __init__(self, rate: int, sink: IO[bytes], header: bool, whole: bool) -> None:
        self._rate = rate
        self._sink = sink
        self._patched = header and whole
        self._size = 0
        if header:
            sink.write(wav_header(rate, None))

    def write(self, samples: Samples) -> None:
        data = np.rint(samples * 32767).astype("<i2").tobytes()
        self._size += len(data)
        if self._patched and self._size > LARGEST_WAV:
            raise InvalidRequest(
                "The speech is too long for a wav file. Ask for another format.", param="response_format"
            )
        self._sink.write(data)

    def close(self) -> None:
        if self._patched:
            self._sink.seek(0)
            self._sink.write(wav_header(self._rate, self._size))


def wav_header(rate: int, size: int | None) -> bytes:
    """The 44 bytes in front of so many bytes of samples; None: as many as there will be."""
    length = (UNKNOWN_SIZE if size is None else size).to_bytes(4, "little")
    whole = (UNKNOWN_SIZE if size is None else size + 36).to_bytes(4, "little")
    numbers = ((16, 4), (1, 2), (1, 2), (rate, 4), (rate * 2, 4), (2, 2), (16, 2))
    form = b"".join(number.to_bytes(width, "little") for number, width in numbers)
    return b"RIFF" + whole + b"WAVEfmt " + form + b"data" + length


class Coded:
    """A file with an encoder. The library cuts frames of the encoder's size and format."""

    def __init__(self, codec: FileCodec, rate: int, sink: IO[bytes]) -> None:
        options = {"flush_packets": "1", **dict(codec.options)}
        self._container = av.open(sink, mode="w", format=codec.container, options=options)
        self._stream: Any = self._container.add_stream(codec.encoder, rate=rate, layout="mono")
        context: Any = self._stream.codec_context
        context.format = codec.samples
        context.time_base = Fraction(1, rate)
        context.thread_count = 1
        if codec.bits is not None:
            context.bit_rate = codec.bits[0] if rate >= 16_000 else codec.bits[1]
        self._rate = rate
        self._written = 0

    def write(self, samples: Samples) -> None:
        if len(samples):
            frame = AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = self._rate, Fraction(1, self._rate), self._written
            self._written += len(samples)
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        if not self._written:
            self.write(np.zeros(self._rate // 50, np.float32))  # a file without a single frame isn't one
        self._container.mux(self._stream.encode(None))
        self._container.close()
