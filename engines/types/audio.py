"""Requests, results and events of recordings and speech; `types.py` has those of text.

Two levels. A client asks for a whole recording or text (`TranscriptionRequest`, `SpeechRequest`): fronts know these. A
model is asked for a piece of it that it handles well (`PieceRequest`, `UtteranceRequest`): these go over the wire.
Sound between processes is float32, little-endian, one channel, from -1 to 1. Times are seconds from the beginning of
the recording, or of the piece.
"""

from typing import Literal

import msgspec

from engines.types.chat import Delta
from engines.types.common import Priority, Started, Timings, Usage

EAR_RATE = 16_000  # samples a second that models which listen take
VOICE_RATE = 24_000  # samples a second that models which speak make and take

Script = Literal["as-is", "traditional", "simplified"]
Channels = Literal["mix", "separate"] | int  # all as one, each for itself, or one of them, counted from 1
SoundFormat = Literal["wav", "mp3", "flac", "opus", "aac", "pcm"]


class Word(msgspec.Struct, frozen=True):
    """A word, or a character of a script without spaces, and when it was spoken. `probability` None: not given."""

    text: str
    start: float
    end: float
    probability: float | None = None


class Segment(msgspec.Struct, frozen=True):
    """A stretch of speech with its text. Quality figures are None where the model gives none.

    `approximate`: the model told no times; in a transcript they are then apportioned by the text's length. `looped`
    says that the model repeated itself there, also when it was asked again; the repetition is cut to one. `channel`
    counts from 1 where channels are written down separately, else it is 0.
    """

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    approximate: bool = False
    looped: bool = False
    avg_logprob: float | None = None
    compression_ratio: float | None = None
    no_speech_prob: float | None = None
    temperature: float = 0.0
    channel: int = 0


# -- what a model is asked ----------------------------------------------------------------------------------------


class PieceRequest(msgspec.Struct, frozen=True, tag=True):
    """A piece of a recording to write down: `samples` at `EAR_RATE`.

    `language` is a code of `speech.languages`, "" lets the model tell. `context` is text with names and terms that may
    come up. `repetition_penalty` above 1 is for a second try, after a loop. `translate` writes English.

    `beginning` is what the text begins with: it was told already, and the model goes on behind it. `language` is then
    that in which it is written.
    """

    model: str
    samples: bytes
    language: str = ""
    context: str = ""
    temperature: float = 0.0
    repetition_penalty: float = 1.0
    translate: bool = False
    words: bool = False
    beginning: str = ""
    trace: str = ""
    priority: Priority = "background"


class PieceText(Delta, frozen=True, tag=True, omit_defaults=True):
    """More of a piece's text, behind its `beginning`, as the model writes it: all of it, joined, is what was written.

    `language` is the code of the one in which it is, "" if the model didn't say. A model that tells times says what it
    has written with segments alone; its `Delta`s are none of these.
    """

    language: str = ""


class PieceDone(msgspec.Struct, frozen=True, tag=True):
    """The last event of a piece. `finish_reason` "length" means that its text is cut at the limit of tokens.

    A model that tells no times gives one `approximate` segment, as long as the piece. `language` is a code, given or
    heard, "" if the model didn't say. `segments` is empty when nothing is spoken; `no_speech`: the model said so.
    `misaligned`: times of words were asked for, and those that were found can't be true.
    """

    segments: tuple[Segment, ...]
    language: str
    finish_reason: Literal["stop", "length"]
    usage: Usage
    timings: Timings
    no_speech: bool = False
    misaligned: bool = False


class AlignmentRequest(msgspec.Struct, frozen=True, tag=True):
    """A piece of a recording, `samples` at `EAR_RATE`, and the text that is spoken in it."""

    model: str
    samples: bytes
    text: str
    language: str
    trace: str = ""
    priority: Priority = "background"


class AlignmentDone(msgspec.Struct, frozen=True, tag=True):
    """When each word was spoken, or each character where the script has no spaces. The only event but `Started`."""

    words: tuple[Word, ...]
    usage: Usage
    timings: Timings


class UtteranceRequest(msgspec.Struct, frozen=True, tag=True):
    """A sentence or so to speak in one go, in at most `max_seconds`.

    `voice` is one of the model's speakers, or "" when `reference` (samples at `VOICE_RATE`) is a voice to imitate, in
    which `reference_text` is spoken. `language` is a code, "" lets the model tell. `instructions` say in what manner.
    """

    model: str
    text: str
    voice: str = ""
    language: str = ""
    instructions: str = ""
    max_seconds: float = 60.0
    seed: int | None = None
    reference: bytes = b""
    reference_text: str = ""
    trace: str = ""
    priority: Priority = "interactive"


class Sound(msgspec.Struct, frozen=True, tag=True):
    """More of an utterance: `samples` at `VOICE_RATE`."""

    samples: bytes


class UtteranceDone(msgspec.Struct, frozen=True, tag=True):
    """The last event of an utterance. "length" means that `max_seconds` ended it, and not the model."""

    seconds: float
    finish_reason: Literal["stop", "length"]
    usage: Usage
    timings: Timings


# -- what a client asks -------------------------------------------------------------------------------------------


class TranscriptionRequest(msgspec.Struct, frozen=True):
    """A recording to write down: the file at `path`, whatever its name says.

    `prompt` and `hotwords` reach the model as context. `words` asks for times of words. `script` None leaves it to
    the configuration. `streamed` asks for text as early as can be: where a model fails, it is then asked only for what
    comes behind the text that was told. `tenant` tells those apart who ask: what was heard for one is never given to
    another.

    `track` is one of the file's audio tracks, counted from 1; None takes the default one, or the next if there is no
    sound in its first ten minutes.
    """

    model: str
    path: str
    language: str = ""
    prompt: str = ""
    hotwords: tuple[str, ...] = ()
    temperature: float = 0.0
    translate: bool = False
    words: bool = False
    script: Script | None = None
    streamed: bool = False
    tenant: str = ""
    trace: str = ""
    track: int | None = None
    channels: Channels = "mix"
    priority: Priority = "background"


class TranscriptProgress(msgspec.Struct, frozen=True):
    """So many seconds of the recording are done; `total` is None when the file doesn't say."""

    seconds: float
    total: float | None


class TranscriptText(msgspec.Struct, frozen=True):
    """More of the text; it is final. If the request is `streamed` it may come before its segments are known."""

    text: str


class TranscriptPart(msgspec.Struct, frozen=True):
    """Further segments, in order, of text that was told; what is in them is final."""

    segments: tuple[Segment, ...]


class Transcript(msgspec.Struct, frozen=True):
    """The whole of it, the last event. `text` is all that was told, joined; `segments` are those of the parts.

    `seconds` is how long the recording is. `incomplete` says in sentences what is missing: the file was cut, a limit
    of tokens was met, a model repeated itself. `language` is a code, that of most of it if there are several.
    `track` is the audio track that was heard, of so many `tracks` in the file. Where channels are written down
    separately, the text says in front of each stretch which one it is, and segments come by when their pieces end.
    """

    text: str
    segments: tuple[Segment, ...]
    language: str
    seconds: float
    usage: Usage
    incomplete: tuple[str, ...] = ()
    track: int = 1
    tracks: int = 1


TranscriptionEvent = Started | TranscriptProgress | TranscriptText | TranscriptPart | Transcript


class AlignRequest(msgspec.Struct, frozen=True):
    """When the words of `text` are spoken in the file at `path`; in one channel, or in all if that is None."""

    model: str
    path: str
    text: str
    language: str = ""
    trace: str = ""
    track: int | None = None
    channel: int | None = None
    priority: Priority = "background"


class Aligned(msgspec.Struct, frozen=True):
    """The words with their times; `seconds` is how long the recording is. `language` is a code: the one that was given,
    else the one that the text's script speaks for, "" where that may be many.

    `approximate`: those that were found can't be true; these are reckoned from the length of the text. `track` and
    `tracks` are as in `Transcript`."""

    words: tuple[Word, ...]
    language: str
    seconds: float
    approximate: bool = False
    track: int = 1
    tracks: int = 1


class SpeechRequest(msgspec.Struct, frozen=True):
    """Text to speak, of any length, and the file to make of it.

    `voice` "" is the model's first speaker. `speed` 2 is twice as fast. `sample_rate` None is the model's own.
    `reference_path` is a recording of a voice to imitate; where `reference_text` is missing it is transcribed.
    """

    model: str
    text: str
    voice: str = ""
    language: str = ""
    instructions: str = ""
    speed: float = 1.0
    format: SoundFormat = "wav"
    streamed: bool = False
    sample_rate: int | None = None
    seed: int | None = None
    reference_path: str = ""
    reference_text: str = ""
    trace: str = ""
    priority: Priority = "interactive"


class SpeechData(msgspec.Struct, frozen=True):
    """More bytes of the file. Unless `streamed`, there is one, with true sizes in its header."""

    data: bytes


class SpeechProgress(msgspec.Struct, frozen=True):
    """So many of the text's parts are spoken; a part is a sentence or so."""

    parts: int
    total: int


class SpeechDone(msgspec.Struct, frozen=True):
    """The last event. `incomplete` says in sentences which parts of the text are cut or missing."""

    seconds: float
    usage: Usage
    incomplete: tuple[str, ...] = ()


SpeechEvent = Started | SpeechData | SpeechProgress | SpeechDone


class Voice(msgspec.Struct, frozen=True):
    """What may be given as `voice`. `languages` are codes it is made for; `stored` ones were recorded by the user.

    `created` is when, in seconds since 1970; 0 for those that came with their model.
    """

    name: str
    languages: tuple[str, ...] = ()
    stored: bool = False
    consent: str = ""
    created: int = 0
