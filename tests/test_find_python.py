"""The script that finds a Python to install with, on machines that are made of a few commands."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "tools" / "find-python"
NATIVE, INTEL = "arm64", "x86_64"


class Machine:
    """A folder of commands that is the whole PATH."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, name: str, answers: str, status: int = 0) -> None:
        command = self._folder / name
        command.write_text(f"#!/bin/sh\necho '{answers}'\nexit {status}\n", encoding="utf-8")
        command.chmod(0o755)

    def find(self) -> tuple[int, str, str]:
        done = subprocess.run(
            ["/bin/sh", str(SCRIPT)], env={"PATH": str(self._folder)}, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout.strip(), done.stderr.strip()


@pytest.fixture
def linux(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    machine.has("uname", "Linux")
    return machine


@pytest.fixture
def mac(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    machine.has("uname", "Darwin")
    machine.has("sysctl", "1")
    machine.has("sw_vers", "14.6.1")
    return machine


def test_the_newest_python_is_taken(linux: Machine) -> None:
    linux.has("python3.9", "")
    linux.has("python3.12", "")
    linux.has("python3", "")
    assert linux.find() == (0, "python3.12", "")


def test_a_python_without_pip_is_passed_over(linux: Machine) -> None:
    linux.has("python3.13", "No module named pip", status=1)
    linux.has("python3", "")
    assert linux.find() == (0, "python3", "")


def test_without_any_python_one_sentence_says_what_to_install(linux: Machine) -> None:
    status, found, said = linux.find()
    assert (status, found) == (1, "")
    assert "install Python 3.9" in said


def test_a_mac_with_its_own_python_has_one(mac: Machine) -> None:
    mac.has("python3.13", NATIVE)
    assert mac.find() == (0, "python3.13", "")


def test_an_intel_python_under_rosetta_is_passed_over_for_a_native_one(mac: Machine) -> None:
    mac.has("python3.13", INTEL)
    mac.has("python3", NATIVE)
    assert mac.find() == (0, "python3", "")


def test_an_intel_python_alone_is_named_with_the_remedy(mac: Machine) -> None:
    mac.has("python3", INTEL)
    status, found, said = mac.find()
    assert (status, found) == (1, "")
    assert "Rosetta" in said
    assert "/opt/homebrew" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("version", ["13.7.2", "12.0", "11.7.10"])
def test_a_mac_before_macos_14_is_told_so(mac: Machine, version: str) -> None:
    mac.has("sw_vers", version)
    mac.has("python3", NATIVE)
    status, _, said = mac.find()
    assert status == 1
    assert version in said
    assert "macOS 14" in said


def test_a_mac_with_an_intel_processor_is_told_that_it_cant(mac: Machine) -> None:
    mac.has("sysctl", "", status=1)
    status, _, said = mac.find()
    assert status == 1
    assert "Apple silicon" in said


def test_the_makefile_asks_this_script() -> None:
    assert os.access(SCRIPT, os.X_OK)
    assert "tools/find-python" in (SCRIPT.parent.parent / "Makefile").read_text(encoding="utf-8")
