"""Failures of the device or its allocator, after which nothing that the process has computed can be trusted.

MLX reports a failed command buffer once, by an exception of whatever waits next, and forgets it. Other arrays of that
buffer (a pass ahead, other rows' caches, stored blocks) then read as if they were computed (ml-explore/mlx#3523). So a
guard that fails one request and goes on must let such an exception through: it ends the runner.
"""

import re

STATUS = 70  # a runner's exit status

_REPORTED = re.compile(r"\[(metal|malloc|cuda)|cu\w+\(.*\) failed|\w*command buffer execution failed", re.IGNORECASE)


def is_device_fault(error: BaseException) -> bool:
    """Whether MLX raised it for its device or its allocator, and not for what it was asked."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_REPORTED.match(str(error))))


def pass_on(error: Exception) -> None:
    """Raise it again if the runner must end of it: to be called first wherever work on the device is guarded."""
    if is_device_fault(error):
        raise error
