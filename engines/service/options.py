"""What the runtime needs to know of the configuration."""

import msgspec

from engines.service.pool import PoolLimits
from engines.service.runners import COMMAND


class RuntimeOptions(msgspec.Struct, frozen=True):
    """Model names as clients write them; `context_limit` in tokens; `runner` is what a runner is started with.

    `checkpoint_sampling`: where a request doesn't say how to sample, the checkpoint's own configuration does.
    `battery_floor` is the charge, in percent, below which background work waits while the machine runs on it.
    `wired_limit` is the bytes that each runner asks macOS to keep resident at most; 0 leaves that to macOS.
    """

    limits: PoolLimits
    context_limit: int = 32768
    pinned: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    spare: bool = False
    checkpoint_sampling: bool = True
    wired_limit: int = 0
    battery_floor: float = 0.0
    runner: tuple[str, ...] = COMMAND
