"""What the process with mlx-lm's batch is told, and what it says besides streams."""

from msgspec import Struct


class Piece(Struct, frozen=True):
    ids: tuple[int, ...]
    max_tokens: int
    after: int


class Generate(Struct, frozen=True, tag=True):
    """All pieces as one batch; None is mlx-lm's default."""

    pieces: tuple[Piece, ...]
    prefill_step_size: int | None
    prefill_batch_size: int | None
    keep: bool


class Bandwidth(Struct, frozen=True, tag=True):
    megabytes: int


class AskDevice(Struct, frozen=True, tag=True):
    """What MLX computes on."""


class Device(Struct, frozen=True):
    """As MLX describes it: its name, memory in bytes and more, by system."""

    about: dict[str, str | int]

    @property
    def is_gpu(self) -> bool:
        return "gpu" in str(self.about["device"])


class Measured(Struct, frozen=True):
    """Bytes per second by what was done."""

    speeds: dict[str, float]


Command = Generate | Bandwidth | AskDevice
