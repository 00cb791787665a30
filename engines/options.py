"""What the runtime needs to know of the configuration."""

import msgspec

from engines.pool import Limits
from engines.runners import COMMAND


class Options(msgspec.Struct, frozen=True):
    """Model names as clients write them; `context_limit` in tokens; `runner` is what a runner is started with."""

    limits: Limits
    context_limit: int = 32768
    pinned: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    spare: bool = False
    runner: tuple[str, ...] = COMMAND
