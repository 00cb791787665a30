"""How large everything is."""

from msgspec import Struct


class Scale(Struct, frozen=True):
    """Sizes of the models, in numbers; of prompts and answers, in tokens."""

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
    rounds: int = 5


FULL = Scale()
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
    rounds=1,
)


def label(rows: int) -> str:
    """A vocabulary's name: `4k` for 4,032 rows."""
    return f"{rows // 1000}k"
