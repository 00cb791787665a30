"""How much memory this process uses, as the kernel counts it when it decides whom to end.

macOS counts the physical footprint: what is compressed or swapped out is in it, pages that were freed and not yet
reclaimed aren't. The resident set there is wrong in both directions.
"""

import ctypes
import os
from collections.abc import Callable
from typing import Protocol

import psutil

from engines.host.system import Host

RUSAGE_INFO_V0 = 0
_COUNTERS_BEFORE = ("user_time", "system_time", "pkg_idle_wkups", "interrupt_wkups", "pageins", "wired_size")


class RusageInfo(ctypes.Structure):
    """`struct rusage_info_v0` of <sys/resource.h>; all later versions begin with the same fields."""

    _fields_ = (
        ("ri_uuid", ctypes.c_uint8 * 16),
        *((f"ri_{name}", ctypes.c_uint64) for name in _COUNTERS_BEFORE),
        ("ri_resident_size", ctypes.c_uint64),
        ("ri_phys_footprint", ctypes.c_uint64),
        ("ri_proc_start_abstime", ctypes.c_uint64),
        ("ri_proc_exit_abstime", ctypes.c_uint64),
    )


class Libproc(Protocol):
    """libproc.dylib, as ctypes gives it."""

    def proc_pid_rusage(self, pid: int, flavor: int, buffer: object, /) -> int: ...


def footprint(library: Libproc, process: int) -> int | None:
    """Bytes of physical footprint; None if the system doesn't say."""
    usage = RusageInfo()
    if library.proc_pid_rusage(process, RUSAGE_INFO_V0, ctypes.byref(usage)) != 0:
        return None
    return int(usage.ri_phys_footprint)


def load_libproc() -> Libproc:
    """Raises `OSError` where there is none."""
    library: Libproc = ctypes.CDLL("/usr/lib/libproc.dylib")
    return library


def used_bytes(host: Host, load: Callable[[], Libproc] = load_libproc) -> Callable[[], int]:
    """A function that measures this process: its footprint on macOS, its resident set elsewhere or if that fails."""
    process = psutil.Process()  # and not `getrusage`, which on Linux counts what its parent had when it was forked

    def resident() -> int:
        return int(process.memory_info().rss)

    if not host.measures_footprint:
        return resident
    try:
        library = load()
    except OSError:
        return resident

    def measured() -> int:
        bytes = footprint(library, os.getpid())
        return resident() if bytes is None else bytes

    return measured
