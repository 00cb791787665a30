"""What child processes are given, and what they cost."""

import asyncio
import contextlib
import ctypes.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

QUIET_SHARE = 0.03
QUIET_SECONDS = 0.5
SETTLE_SECONDS = 20.0


def openblas() -> str | None:
    """The library that our runners load before MLX on Linux; None where there is none, or no need."""
    return ctypes.util.find_library("openblas") if sys.platform == "linux" else None


def environment(threads: int, *, preload: bool) -> dict[str, str]:
    """`preload` for those that do not look for OpenBLAS themselves."""
    settings = {
        "OPENBLAS_NUM_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    library = openblas()
    if preload and library:
        settings["LD_PRELOAD"] = library
    return {**os.environ, **settings}


def tree(process: psutil.Process) -> Iterator[psutil.Process]:
    """A process and all below it."""
    yield process
    with contextlib.suppress(psutil.NoSuchProcess):
        yield from process.children(recursive=True)


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time of the tree's living processes."""
    total = 0.0
    for one in tree(process):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            total += times.user + times.system
    return total


def memory_bytes(process: psutil.Process) -> int:
    """Its share of memory: PSS on Linux; elsewhere what is its alone."""
    memory = process.memory_full_info()
    return int(memory.pss if hasattr(memory, "pss") else memory.uss)


def private_bytes(process: psutil.Process) -> int:
    """What is its alone. Unlike PSS it doesn't change when somebody else starts or ends."""
    return int(process.memory_full_info().uss)


async def settled(process: psutil.Process) -> None:
    """Waits until the tree is at rest (a spare that starts, imports in a thread), for some seconds at most."""
    until = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < until:
        before = cpu_seconds(process)
        await asyncio.sleep(QUIET_SECONDS)
        if cpu_seconds(process) - before < QUIET_SHARE * QUIET_SECONDS:
            return


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def blas_of(process: psutil.Process) -> list[str]:
    """The BLAS libraries that a process has loaded, where the system tells."""
    with contextlib.suppress(psutil.Error, AttributeError, subprocess.SubprocessError):
        paths = [Path(region.path) for region in process.memory_maps()]
        return sorted({path.name for path in paths if "blas" in path.name.lower()})
    return []
