"""The documentation is true: its commands exist, its names resolve, its references are current."""

import importlib
import re
from pathlib import Path

import pytest

from mlx_local_inference import settings

ROOT = Path(__file__).parent.parent
NAME = re.compile(r"`((?:engines|http_server|openai_compat|mcp_server|files)(?:\.\w+)+)`")
FENCED = re.compile(r"```sh\n(.*?)```", re.S)


def names() -> list[str]:
    return sorted(set(NAME.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))))


@pytest.mark.parametrize("name", names())
def test_every_name_in_the_life_of_a_request_is_there(name: str) -> None:
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return
    raise AssertionError(name)


def test_the_life_of_a_request_names_its_stations() -> None:
    assert len(names()) >= 12


def commands() -> list[str]:
    lines = [
        line for block in FENCED.findall((ROOT / "README.md").read_text(encoding="utf-8")) for line in block.split("\n")
    ]
    return [line for line in lines if line]


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("make ")])
def test_every_make_target_in_the_readme_is_one(command: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"\n{command.split()[1]}:" in makefile


def test_the_reference_of_settings_is_current() -> None:
    assert settings.reference() in (ROOT / "references" / "configuration.md").read_text(encoding="utf-8")
