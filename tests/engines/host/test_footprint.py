import ctypes
import os
from typing import Any

import psutil
import pytest

from engines.host.footprint import RUSAGE_INFO_V0, RusageInfo, used_bytes
from engines.host.system import Host
from tests.promises import promise

MAC, LINUX = Host("darwin"), Host("linux")
FOOTPRINT = 7 << 40  # more than any resident set


class FakeLibproc:
    """Writes as the kernel does: by offsets into the buffer, not by names."""

    def __init__(self, status: int = 0) -> None:
        self.status = status
        self.asked: list[tuple[int, int]] = []

    def proc_pid_rusage(self, pid: int, flavor: int, buffer: Any) -> int:
        self.asked.append((pid, flavor))
        ctypes.c_uint64.from_address(ctypes.addressof(buffer._obj) + 72).value = FOOTPRINT
        return self.status


def missing() -> FakeLibproc:
    raise OSError("no such library")


def is_resident_set(bytes: int) -> bool:
    return abs(bytes - int(psutil.Process().memory_info().rss)) < 64 << 20


def test_the_structure_lies_as_in_the_header() -> None:
    assert RusageInfo.ri_phys_footprint.offset == 16 + 7 * 8
    assert RusageInfo.ri_resident_size.offset == 16 + 6 * 8
    assert ctypes.sizeof(RusageInfo) == 96


@promise("mac:media:measures-footprint")
def test_a_mac_counts_the_physical_footprint_of_this_process() -> None:
    library = FakeLibproc()
    assert used_bytes(MAC, lambda: library)() == FOOTPRINT
    assert library.asked == [(os.getpid(), RUSAGE_INFO_V0)]


@pytest.mark.parametrize("load", [missing, lambda: FakeLibproc(status=-1)])
def test_where_the_footprint_is_not_to_be_had_the_resident_set_counts(load: Any) -> None:
    assert is_resident_set(used_bytes(MAC, load)())


def test_linux_counts_the_resident_set_and_loads_no_library() -> None:
    assert is_resident_set(used_bytes(LINUX, missing)())
