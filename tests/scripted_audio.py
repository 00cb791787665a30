"""Recordings and speech without weights, for `scripted.Scripted`: deterministic, and obedient.

A recording is a file of text: its words are what is heard, half a second each, and a "/" begins a further segment. A
file that is no text is heard as its size in bytes. A text to speak becomes one piece of the file for each sentence.
Either may begin with a command:

- `say: TEXT` does what TEXT alone does
- `cut: TEXT` marks the result as incomplete
- `loop: TEXT` marks the first segment as looped, and the transcript as incomplete
- `rough: TEXT` has times that are approximate, and no figures
- `film: TEXT` is the second of two audio tracks
- `wait: TEXT` yields nothing, not even `Started`, until `release()`; `pause: TEXT` waits behind the first piece
- `hang` starts, then waits until it is closed
- `fail: CODE` raises the `ServiceError` of that code, before `Started`
- `crash: TEXT` raises `RunnerDied` behind the first piece

Voices are `serena` and `vivian`, OpenAI's names, and those that are stored.
"""

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread

from engines.types.audio import (
    VOICE_RATE,
    Aligned,
    AlignRequest,
    Segment,
    SpeechData,
    SpeechDone,
    SpeechEvent,
    SpeechProgress,
    SpeechRequest,
    Transcript,
    TranscriptionEvent,
    TranscriptionRequest,
    TranscriptPart,
    TranscriptProgress,
    TranscriptText,
    Voice,
    Word,
)
from engines.types.common import Started, Usage
from engines.types.errors import Failure, InvalidRequest, RunnerDied

WORD_SECONDS = 0.5
LONGEST_TEXT = 1 << 20  # bytes; a larger file is no text
VOICES = (Voice("serena", ("zh", "en")), Voice("vivian", ("en",)))
ALSO_VOICES = frozenset("alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse".split())
_COMMAND = re.compile(r"(say|cut|loop|rough|film|wait|pause|crash|fail): ?(.*)", re.DOTALL)


async def transcribe(main: str, request: TranscriptionRequest, gate: anyio.Event) -> AsyncGenerator[TranscriptionEvent]:
    """What `Inference.transcribe` yields, by the model called `main`."""
    command, text = _command(await anyio.to_thread.run_sync(_heard, request.path))
    track, tracks = _track(request.track, command)
    await _before(main, command, text, gate)
    yield Started(main, 0)
    if command == "hang":
        await anyio.sleep_forever()
    segments = _segments(command, text, request)
    total = segments[-1].end if segments else 0.0
    for place, segment in enumerate(segments):
        await anyio.lowlevel.checkpoint()
        yield TranscriptText(segment.text if place == 0 else f" {segment.text}")
        yield TranscriptPart((segment,))
        yield TranscriptProgress(segment.end, total)
        await _behind_the_first(main, command, gate, place)
    yield Transcript(
        text=" ".join(segment.text for segment in segments),
        segments=segments,
        language=request.language or "en",
        seconds=total,
        usage=Usage(0, len(text.split())),
        incomplete=_missing(command, "The recording ends early; what there is of it is written down."),
        track=track,
        tracks=tracks,
    )


async def align(request: AlignRequest) -> Aligned:
    """What `Inference.align` returns: half a second for each word of the text, whatever is heard."""
    command, text = _command(request.text)
    if command == "hang":
        await anyio.sleep_forever()
    if command == "fail":
        raise _failure(text)
    words = _words(text.split(), 0.0)
    return Aligned(words, request.language, words[-1].end if words else 0.0)


async def speak(
    main: str, request: SpeechRequest, gate: anyio.Event, stored: Mapping[str, Voice]
) -> AsyncGenerator[SpeechEvent]:
    """What `Inference.speak` yields: bytes that name the format, then each sentence."""
    command, text = _command(request.text)
    known = [voice.name for voice in (*VOICES, *stored.values())]
    if request.voice not in ("", *known, *ALSO_VOICES):
        raise InvalidRequest(f"There is no voice {request.voice!r}. Voices: {', '.join(known)}.", param="voice")
    await _before(main, command, text, gate)
    yield Started(main, 0)
    if command == "hang":
        await anyio.sleep_forever()
    sentences = re.findall(r"[^.。]+[.。]?\s*", text)
    pieces = [f"{request.format}:".encode() + await _reference(request), *(one.encode() for one in sentences)]
    if request.streamed:
        for place, piece in enumerate(pieces):
            await anyio.lowlevel.checkpoint()
            yield SpeechData(piece)
            if place > 0:
                yield SpeechProgress(place, len(sentences))
            await _behind_the_first(main, command, gate, place)
    else:
        await _behind_the_first(main, command, gate, 0)
        for place in range(len(sentences)):
            yield SpeechProgress(place + 1, len(sentences))
        yield SpeechData(b"".join(pieces))
    seconds = WORD_SECONDS * len(text.split()) / request.speed
    usage = Usage(len(text.split()), round(seconds * VOICE_RATE))
    yield SpeechDone(seconds, usage, _missing(command, "The last sentence is cut; ask for it again."))


def store(name: str, consent: str, stored: Mapping[str, Voice]) -> Voice:
    """The voice to keep. Raises `InvalidRequest` for a name that is taken or no name."""
    if not re.fullmatch(r"[\w .-]{1,64}", name) or name.startswith("."):
        raise InvalidRequest("name must be of letters, digits, blanks, dots and dashes.", param="name")
    if name in stored or name in (voice.name for voice in VOICES):
        raise InvalidRequest(f"There is a voice {name!r} already.", param="name")
    return Voice(name, stored=True, consent=consent)


def _heard(path: str) -> str:
    with open(path, "rb") as file:
        data = file.read(LONGEST_TEXT + 1)
    if not data:
        raise InvalidRequest("The file is empty.", param="file")
    try:
        return data.decode() if len(data) <= LONGEST_TEXT else f"{Path(path).stat().st_size} bytes"
    except UnicodeDecodeError:
        return f"{len(data)} bytes"


async def _reference(request: SpeechRequest) -> bytes:
    """A voice to imitate, in brackets."""
    if not request.reference_path:
        return b""
    heard = await anyio.to_thread.run_sync(Path(request.reference_path).read_bytes)
    return b"[" + heard + b"|" + request.reference_text.encode() + b"]"


def _command(text: str) -> tuple[str, str]:
    if text == "hang":
        return "hang", ""
    found = _COMMAND.match(text)
    return (found[1], found[2]) if found else ("say", text)


def _track(asked: int | None, command: str) -> tuple[int, int]:
    """The number of the audio track, and of how many."""
    tracks = 2 if command == "film" else 1
    if asked is not None and not 1 <= asked <= tracks:
        raise InvalidRequest(f"There is no audio track {asked}. There are {tracks}, counted from 1.", param="track")
    return asked or tracks, tracks


def _failure(code: str) -> Exception:
    return Failure(code, f"The script asked for {code}; ask for something else.").error()


async def _before(main: str, command: str, text: str, gate: anyio.Event) -> None:
    if command == "fail":
        raise _failure(text)
    if command == "wait":
        await gate.wait()


async def _behind_the_first(main: str, command: str, gate: anyio.Event, place: int) -> None:
    if place == 0 and command == "pause":
        await gate.wait()
    if place == 0 and command == "crash":
        raise RunnerDied(f"The runner of {main} died. Try again: it is being started anew.", retry_after=1.0)


def _segments(command: str, text: str, request: TranscriptionRequest) -> tuple[Segment, ...]:
    made: list[Segment] = []
    for part in filter(None, (part.strip() for part in text.split("/"))):
        start = made[-1].end if made else 0.0
        words = _words(part.split(), start)
        rough = command == "rough"
        figures = {} if rough else {"avg_logprob": -0.25, "compression_ratio": 1.25, "no_speech_prob": 0.125}
        made.append(
            Segment(
                start,
                words[-1].end,
                part,
                words if request.words else (),
                approximate=rough,
                looped=command == "loop" and not made,
                channel=len(made) % 2 + 1 if request.channels == "separate" else 0,
                temperature=request.temperature,
                **figures,
            )
        )
    return tuple(made)


def _words(texts: Sequence[str], start: float) -> tuple[Word, ...]:
    return tuple(
        Word(text, start + place * WORD_SECONDS, start + (place + 1) * WORD_SECONDS) for place, text in enumerate(texts)
    )


def _missing(command: str, sentence: str) -> tuple[str, ...]:
    if command == "loop":
        return ("The model repeats itself from 0:00 on; the repetition is cut.",)
    return (sentence,) if command == "cut" else ()
