"""Which of a file's audio tracks is listened to."""

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition

from engines.media.formats import CODECS, KINDS
from engines.media.worker.source import check_parameters, refused
from engines.types.errors import InvalidRequest

MOST_NAMED = 20
CHECKED = ("tta", "wavpack", "flac")  # codecs whose frames have checksums that all encoders write rightly


def candidates(container: InputContainer, number: int | None) -> list[int]:
    """Numbers of the tracks to try, counted from 1, the best first; only the one that is asked for, if one is.

    The best is the first that is marked as default, else the one that the library takes for it. Raises `InvalidRequest`
    if there is no such track, or none that can be decoded.
    """
    tracks = container.streams.audio
    if not tracks:
        what = f"{len(container.streams.video)} of pictures" if container.streams.video else "none of any kind"
        raise refused(f"The file has no audio track: there is {what}, in a file of {_format(container)}.")
    if number is not None:
        if not 1 <= number <= len(tracks):
            message = f"There is no audio track {number}. There are, counted from 1: {_listed(tracks)}."
            raise InvalidRequest(message, param="track")
        if not is_readable(tracks[number - 1]):
            raise _undecodable(container, [tracks[number - 1]])
        return [number]
    readable = [one for one, track in enumerate(tracks, 1) if is_readable(track)]
    if not readable:
        raise _undecodable(container, list(tracks))
    best = container.streams.best("audio")
    default = [one for one in readable if tracks[one - 1].disposition & Disposition.default]
    usual = [one for one in readable if best is not None and tracks[one - 1].index == best.index]
    first = next(iter(default or usual), readable[0])
    return [first, *(one for one in readable if one != first)]


def is_readable(track: AudioStream) -> bool:
    return track.codec_context is not None and track.codec_context.name in CODECS


def opened(container: InputContainer, number: int) -> AudioStream:
    """A track of `candidates`, ready to be decoded, and checked."""
    track = container.streams.audio[number - 1]
    track.codec_context.thread_count = 1
    if track.codec_context.name in CHECKED:
        track.codec_context.options = {"err_detect": "crccheck+explode"}
    check_parameters(track.codec_context.sample_rate, len(track.codec_context.layout.channels))
    return track


def _undecodable(container: InputContainer, tracks: list[AudioStream]) -> InvalidRequest:
    codecs = ", ".join(sorted({_codec(track) for track in tracks}))
    return refused(
        f"The sound in the file is encoded in a way that can't be read: {codecs}, in a file of {_format(container)}. "
        f"Convert it to wav, mp3 or m4a. What can be read: {KINDS}."
    )


def _listed(tracks: tuple[AudioStream, ...]) -> str:
    named = [f"{number} ({_described(track)})" for number, track in enumerate(tracks[:MOST_NAMED], 1)]
    more = len(tracks) - MOST_NAMED
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")


def _described(track: AudioStream) -> str:
    told = [track.language or "", (track.metadata.get("title") or "")[:40], _codec(track)]
    return ", ".join(filter(None, told))


def _codec(track: AudioStream) -> str:
    return track.codec_context.name if track.codec_context is not None else "an unknown codec (or the file is damaged)"


def _format(container: InputContainer) -> str:
    return container.format.name.split(",")[0]
