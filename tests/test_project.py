"""The project's own promises: locked, versioned, checked by one command, and no name taken from anyone else."""

import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = "mlx-local-inference"


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def locked() -> list[str]:
    """The lock file's entries, one for each package, with the lines that belong to it."""
    lines = [line for line in read("requirements.lock").splitlines() if not line.lstrip().startswith("#")]
    return re.split(r"\n(?=\S)", "\n".join(lines).strip())


def test_the_lock_names_no_host() -> None:
    text = read("requirements.lock")
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host)\b", text, re.MULTILINE)


def test_every_locked_package_has_one_version_and_hashes() -> None:
    assert len(locked()) > 20
    for entry in locked():
        assert re.match(r"[a-z0-9][a-z0-9._-]*(\[[a-z0-9,_-]+\])?==[^\s;]+", entry), entry.splitlines()[0]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry.splitlines()[0]


def test_every_direct_dependency_is_locked() -> None:
    project = tomllib.loads(read("pyproject.toml"))
    wanted = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    names = {re.split(r"[\[=<>; ]", entry, maxsplit=1)[0] for entry in locked()}
    assert {re.split(r"[\[=<>; ]", requirement, maxsplit=1)[0] for requirement in wanted} <= names


def test_the_newest_entry_of_the_changelog_is_the_package_version() -> None:
    newest = re.search(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == tomllib.loads(read("pyproject.toml"))["project"]["version"]


def test_ci_runs_the_command_of_a_developer() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "make test" in script.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", ["engines", "mcp_server", "openai_compat", "daemon", "demo"])
def test_no_installed_distribution_but_ours_provides_our_modules(name: str) -> None:
    assert set(packages_distributions().get(name, [])) <= {OURS}
