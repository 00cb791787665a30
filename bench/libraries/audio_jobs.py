"""What the process with mlx-audio's own models is told, and what it says."""

from typing import Literal

from msgspec import Struct

from bench.libraries.jobs import AskDevice

Kind = Literal["qwen3-asr", "whisper", "qwen3-tts"]
KINDS: tuple[Kind, ...] = ("qwen3-asr", "whisper", "qwen3-tts")
VOICE = "serena"
INTERVAL = 0.33  # seconds of sound until it is given: as little as ours gives first


def model_of(kind: Kind) -> str:
    """The name of a kind's folder. The bare one would be taken for that of the published model."""
    return f"bench-{kind}"


class Listen(Struct, frozen=True, tag=True):
    """Write down the WAV files at `paths`, each in pieces of at most `piece` seconds."""

    paths: tuple[str, ...]
    piece: float
    streamed: bool


class Speak(Struct, frozen=True, tag=True):
    texts: tuple[str, ...]
    voice: str
    streamed: bool


class Answer(Struct, frozen=True):
    """To one request; seconds on one clock. `first` is when the first text or sound came.

    `text` is what was written down, `sound` how many seconds were spoken.
    """

    submitted: float
    first: float
    ended: float
    text: str = ""
    sound: float = 0.0

    @property
    def wait(self) -> float:
        return self.first - self.submitted


Command = Listen | Speak | AskDevice
