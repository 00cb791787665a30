"""How large everything is."""

from msgspec import Struct


class AudioScale(Struct, frozen=True):
    """Sizes of the models that listen and speak, in numbers; of recordings, in seconds.

    `tokens` are said of every piece, `frames` of every utterance. `seconds` and `long_seconds` are a voice message and
    a longer recording; memory is measured on the `lengths`, with a burst of speech of `burst` at so many a recording.
    """

    hidden: int = 512
    layers: int = 4
    heads: int = 8
    kv_heads: int = 4
    head_dim: int = 64
    intermediate: int = 1536
    encoder_layers: int = 4
    channels: int = 32
    whisper_hidden: int = 384
    whisper_layers: int = 4
    tokens: int = 72
    frames: int = 60
    seconds: float = 25.0
    long_seconds: float = 200.0
    at_once: int = 4
    chat_new: int = 256
    burst: float = 12.0
    lengths: tuple[float, ...] = (60.0, 3600.0, 36_000.0)
    bursts: tuple[int, ...] = (4, 40, 60)


class Scale(Struct, frozen=True):
    """Sizes of the models, in numbers; of prompts and answers, in tokens.

    `name` leads the lines of all its figures; weights are float32, or `bfloat16`.
    """

    name: str = ""
    bfloat16: bool = False
    layers: int = 6
    hidden: int = 512
    heads: int = 8
    kv_heads: int = 4
    head_dim: int = 64
    intermediate: int = 1536
    vocabularies: tuple[int, ...] = (4032, 151_936)
    levels: tuple[int, ...] = (1, 4, 16)
    prompt: int = 128
    new: int = 64
    long_prompt: int = 2000
    running_new: int = 256
    arrives_after: int = 16
    shorts: int = 3
    short_prompt: int = 32
    few_new: int = 8
    turns: int = 50
    turn_prompt: int = 28
    turn_new: int = 16
    requests: int = 1000
    bandwidth_mb: int = 512
    audio: AudioScale = AudioScale()
    rounds: int = 5

    def label(self, rows: int) -> str:
        """The name of a model with such a vocabulary: `4k`, or `large 151k`."""
        return f"{self.name} {label(rows)}".strip()


FULL = Scale()
# The layout of Qwen3-4B with a head of its own: on a GPU the small ones take as long as their kernels take to start.
LARGE = Scale(
    name="large",
    bfloat16=True,
    layers=36,
    hidden=2560,
    heads=32,
    kv_heads=8,
    head_dim=128,
    intermediate=9728,
    vocabularies=(151_936,),
    bandwidth_mb=4096,
)
QUICK = Scale(
    layers=2,
    hidden=64,
    heads=2,
    kv_heads=1,
    head_dim=32,
    intermediate=128,
    vocabularies=(4032,),
    levels=(1, 2),
    prompt=32,
    new=8,
    long_prompt=200,
    running_new=128,
    arrives_after=4,
    shorts=2,
    short_prompt=24,
    few_new=4,
    turns=3,
    turn_new=4,
    requests=20,
    bandwidth_mb=16,
    audio=AudioScale(
        hidden=128,
        layers=1,
        heads=2,
        kv_heads=1,
        intermediate=256,
        encoder_layers=1,
        channels=8,
        whisper_hidden=64,
        whisper_layers=1,
        tokens=12,
        frames=20,
        seconds=5.0,
        long_seconds=100.0,
        chat_new=64,
        burst=3.0,
        lengths=(20.0, 60.0, 600.0),
        bursts=(3, 6, 10),
    ),
    rounds=1,
)

SHAPES = {"small": FULL, "large": LARGE, "quick": QUICK}


def label(rows: int) -> str:
    """A vocabulary's name: `4k` for 4,032 rows."""
    return f"{rows // 1000}k"
