import resource
import subprocess
import sys

import pytest

from engines.host import descriptors

INFINITE = resource.RLIM_INFINITY


class System:
    """Limits of a process, where the system refuses more than `most` whatever the hard limit says."""

    def __init__(self, soft: int, hard: int, most: int = 1 << 20) -> None:
        self.limits = (soft, hard)
        self._most = most

    def get(self, kind: int) -> tuple[int, int]:
        return self.limits

    def set(self, kind: int, limits: tuple[int, int]) -> None:
        if limits[0] > self._most:
            raise ValueError("current limit exceeds maximum limit")
        self.limits = limits


@pytest.mark.parametrize(
    ("system", "limits"),
    [
        (System(256, INFINITE), (10_240, INFINITE)),
        (System(256, 4096), (4096, 4096)),
        (System(256, 256), (256, 256)),
        (System(65_536, INFINITE), (65_536, INFINITE)),
        (System(INFINITE, INFINITE), (INFINITE, INFINITE)),
        (System(256, INFINITE, most=3000), (2560, INFINITE)),
        (System(256, INFINITE, most=256), (256, INFINITE)),
    ],
    ids=["a Mac", "hard", "equal", "more", "infinite", "less than told", "none"],
)
def test_the_soft_limit_is_raised_as_far_as_it_goes_and_never_lowered(system: System, limits: tuple[int, int]) -> None:
    told = descriptors.raise_limit(system.get, system.set)
    assert system.limits == limits
    assert told == (descriptors.WANTED if limits[0] == INFINITE else limits[0])


def test_an_import_neither_lowers_the_limit_nor_fails_where_it_may_not_raise_it() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with descriptors.kept():
        resource.setrlimit(resource.RLIMIT_NOFILE, (16, 1 << 40))
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == limits


def test_a_library_that_wants_more_files_than_it_may_have_can_be_imported() -> None:
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024))\n"
        "from engines.host import descriptors\n"
        "descriptors.raise_limit()\n"
        "with descriptors.kept(): resource.setrlimit(resource.RLIMIT_NOFILE, (2048, 4096))\n"  # as mlx_lm.utils does
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    ended = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.stdout == "(1024, 1024)\n", ended.stderr
