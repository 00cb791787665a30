"""Drawing codes for several rows at once, on the device. A row's randomness is a function of its seed and its place."""

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import mlx.core as mx
import msgspec

from engines.models.model_files import read_json

PENALISED = 64  # the frames back to which a repetition counts


class Choosing(msgspec.Struct, frozen=True):
    """How codes are chosen, from a checkpoint's generation_config.json; the defaults are the model's makers'.

    `temperature` 0 takes the likeliest. The penalty is on the first code of a frame alone; imitated voices get more of
    it, because they ramble otherwise.
    """

    temperature: float = 0.9
    top_k: int = 50
    top_p: float = 1.0
    repetition_penalty: float = 1.05
    imitating_penalty: float = 1.5

    @classmethod
    def read(cls, folder: Path) -> "Choosing":
        path = folder / "generation_config.json"
        given = read_json(path)
        known = {name: given[name] for name in cls.__struct_fields__ if given.get(name) is not None}
        return cls(**({**known, "temperature": 0.0} if given.get("do_sample") is False else known))

    def penalty(self, imitating: bool) -> float:
        return max(self.repetition_penalty, self.imitating_penalty) if imitating else self.repetition_penalty


def noise(seed: int, frame: int, size: int) -> mx.array:
    """[size] of Gumbel noise: the largest of logits plus noise is a draw from their distribution."""
    digest = blake2b(f"{seed}:{frame}".encode(), digest_size=8).digest()
    return mx.random.gumbel((size,), key=mx.random.key(int.from_bytes(digest, "big")))


def choose(logits: mx.array, noise: mx.array, how: Choosing) -> mx.array:
    """Codes [rows] from logits [rows, width] and as much noise."""
    if how.temperature <= 0:
        return mx.argmax(logits, axis=-1)
    scaled = logits.astype(mx.float32) / how.temperature
    width = scaled.shape[-1]
    if 0 < how.top_k < width:
        least = mx.min(mx.topk(scaled, how.top_k, axis=-1), axis=-1, keepdims=True)
        scaled = mx.where(scaled < least, -mx.inf, scaled)
    if how.top_p < 1:
        ordered = mx.sort(scaled, axis=-1)[:, ::-1]
        mass = mx.softmax(ordered, axis=-1)
        before = mx.cumsum(mass, axis=-1) - mass
        least = mx.min(mx.where(before < how.top_p, ordered, mx.inf), axis=-1, keepdims=True)
        scaled = mx.where(scaled < least, -mx.inf, scaled)
    return mx.argmax(scaled + noise, axis=-1)


def penalised(logits: mx.array, made: Sequence[Sequence[int]], penalties: Sequence[float]) -> mx.array:
    """Logits [rows, width] after each row's penalty on the codes that it made lately."""
    recent = [sorted(set(codes[-PENALISED:])) for codes in made]
    longest = max(map(len, recent))
    if longest == 0 or all(penalty == 1 for penalty in penalties):
        return logits
    # Rows are filled up with a code of their own, a row without any with one that isn't changed.
    ids = mx.array([codes + [codes[0] if codes else 0] * (longest - len(codes)) for codes in recent])
    factors = [penalty if codes else 1.0 for codes, penalty in zip(recent, penalties, strict=True)]
    factor = mx.array(factors, logits.dtype)[:, None]
    found = mx.take_along_axis(logits, ids, axis=-1)
    return mx.put_along_axis(logits, ids, mx.where(found < 0, found * factor, found / factor), axis=-1)
