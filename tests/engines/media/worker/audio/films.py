"""Files of several tracks, of any kinds, with their flags and languages."""

import io
from fractions import Fraction
from typing import Any, NamedTuple

import av
from av.stream import Disposition

from tests.engines.media.worker.audio.sounds import Samples


class Track(NamedTuple):
    samples: Samples
    language: str = ""
    title: str = ""
    is_default: bool = False


def film(*tracks: Track, container: str = "matroska", codec: str = "flac", rate: int = 16_000) -> bytes:
    sink = io.BytesIO()
    with av.open(sink, "w", format=container) as output:
        streams = [_stream(output, track, codec, rate) for track in tracks]
        for stream, track in zip(streams, tracks, strict=True):
            frame = av.AudioFrame.from_ndarray(track.samples.reshape(1, -1), "flt", "mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            size = stream.codec_context.frame_size or 1024
            converter = av.AudioResampler(stream.codec_context.format, "mono", rate, frame_size=size)
            at = 0
            for part in [*converter.resample(frame), *converter.resample(None), None]:
                if part is not None:
                    part.pts, part.time_base = at, Fraction(1, rate)
                    at += part.samples
                output.mux(stream.encode(part))
    return sink.getvalue()


def _stream(output: Any, track: Track, codec: str, rate: int) -> Any:
    stream = output.add_stream(codec, rate=rate, layout="mono")
    if track.language:
        stream.metadata["language"] = track.language
    if track.title:
        stream.metadata["title"] = track.title
    stream.disposition = Disposition.default if track.is_default else Disposition(0)
    return stream
