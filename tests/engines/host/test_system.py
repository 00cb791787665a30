import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.host.system import Host

ROOT = Path(__file__).resolve().parents[3]
PRODUCT = ("engines", "http_server", "openai_compat", "mcp_server", "mlx_local_inference", "files")
ASKING = {("sys", "platform"), ("os", "uname"), ("os", "name"), ("platform", "system"), ("platform", "uname")}
MAC, LINUX = Host("darwin"), Host("linux")


def questions(source: str) -> Iterator[int]:
    """The lines of a module that ask which operating system this is."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id=module), attr=name) if (module, name) in ASKING:
                yield node.lineno
            case ast.ImportFrom(module=str(module)) if any((module, one.name) in ASKING for one in node.names):
                yield node.lineno


def test_only_the_machines_own_package_asks_which_operating_system_this_is() -> None:
    asking = [
        f"{path.relative_to(ROOT)}:{line}"
        for package in PRODUCT
        for path in (ROOT / package).rglob("*.py")
        if (ROOT / "engines" / "host") not in path.parents
        for line in questions(path.read_text(encoding="utf-8"))
    ]
    assert asking == []


@pytest.mark.parametrize("source", ["import sys\nsys.platform", "from sys import platform", "os.uname().sysname"])
def test_a_module_that_asks_is_found(source: str) -> None:
    assert list(questions(source))


def test_a_mac_computes_on_its_gpu_and_linux_on_the_processor() -> None:
    assert MAC.computes_on_gpu and not LINUX.computes_on_gpu


def test_openblas_and_malloc_are_matters_of_linux() -> None:
    assert LINUX.loads_openblas and LINUX.tunes_malloc
    assert not MAC.loads_openblas and not MAC.tunes_malloc


def test_memory_is_limited_by_the_kernel_on_linux_and_measured_as_the_kernel_does_on_a_mac() -> None:
    assert (LINUX.limits_address_space, LINUX.measures_footprint) == (True, False)
    assert (MAC.limits_address_space, MAC.measures_footprint) == (False, True)


def test_only_a_mac_reports_pressure() -> None:
    assert MAC.reports_pressure and not LINUX.reports_pressure


def test_a_mac_is_kept_awake_until_the_process_ends() -> None:
    assert MAC.keep_awake_command(42) == ("/usr/bin/caffeinate", "-i", "-w", "42")
    assert LINUX.keep_awake_command(42) == ()


def test_a_system_that_is_neither_gets_what_harms_nobody() -> None:
    other = Host("freebsd14")
    assert not other.computes_on_gpu and not other.loads_openblas and not other.tunes_malloc
    assert not other.limits_address_space and not other.measures_footprint and other.keep_awake_command(1) == ()
