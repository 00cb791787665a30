"""The messages of the processes that run mlx-lm and mlx-audio without a server."""

from typing import Literal

from msgspec import Struct

AudioKind = Literal["qwen3-asr", "whisper", "qwen3-tts"]
KINDS: tuple[AudioKind, ...] = ("qwen3-asr", "whisper", "qwen3-tts")
BATCH_KIND = "batch"  # the process with mlx-lm's batch
VOICE = "serena"
INTERVAL = 0.33  # seconds of sound until it is sent: as little as ours sends first


def model_of(kind: AudioKind) -> str:
    """The name of a kind's folder. The bare one would be taken for that of the published model."""
    return f"bench-{kind}"


class TokenPrompt(Struct, frozen=True):
    ids: tuple[int, ...]
    max_tokens: int
    after: int


class Generate(Struct, frozen=True, tag=True):
    """All prompts as one batch; None is mlx-lm's default."""

    prompts: tuple[TokenPrompt, ...]
    prefill_step_size: int | None
    prefill_batch_size: int | None
    keep: bool


class Bandwidth(Struct, frozen=True, tag=True):
    megabytes: int


class Listen(Struct, frozen=True, tag=True):
    """Transcribe the WAV files at `paths`, each in pieces of at most `piece` seconds."""

    paths: tuple[str, ...]
    piece: float
    streamed: bool


class Speak(Struct, frozen=True, tag=True):
    texts: tuple[str, ...]
    voice: str
    streamed: bool


class AskDevice(Struct, frozen=True, tag=True):
    """What MLX computes on."""


class Device(Struct, frozen=True):
    """As MLX describes it: its name, memory in bytes and more, by system."""

    about: dict[str, str | int]

    @property
    def is_gpu(self) -> bool:
        return "gpu" in str(self.about["device"])


class Bandwidths(Struct, frozen=True):
    """Bytes per second by what was done."""

    speeds: dict[str, float]


class AudioAnswer(Struct, frozen=True):
    """To one request; seconds on one clock. `first` is when the first text or sound came.

    `text` is what was transcribed, `sound` how many seconds were spoken.
    """

    submitted: float
    first: float
    ended: float
    text: str = ""
    sound: float = 0.0

    @property
    def wait(self) -> float:
        return self.first - self.submitted


Job = Generate | Bandwidth | Listen | Speak
Command = Job | AskDevice
