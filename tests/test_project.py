"""The project's own promises: locked, versioned, checked by one command, and no name taken from anyone else."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = "mlx-local-inference"


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


LOCKS = ("requirements.lock", "requirements-dev.lock")


def locked(name: str) -> list[str]:
    """A lock file's entries, one for each package, with the lines that belong to it."""
    lines = [line for line in read(name).splitlines() if not line.lstrip().startswith("#")]
    return re.split(r"\n(?=\S)", "\n".join(lines).strip())


def name_of(entry: str) -> str:
    return re.split(r"[\[=<>; ]", entry, maxsplit=1)[0]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_host(lock: str) -> None:
    text = read(lock)
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host)\b", text, re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_one_version_and_hashes(lock: str) -> None:
    assert len(locked(lock)) > 20
    for entry in locked(lock):
        assert re.match(r"[a-z0-9][a-z0-9._-]*(\[[a-z0-9,_-]+\])?==[^\s;]+", entry), entry.splitlines()[0]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry.splitlines()[0]


def test_every_direct_dependency_is_locked_and_development_has_the_same_versions() -> None:
    project = tomllib.loads(read("pyproject.toml"))
    groups = project["dependency-groups"]
    ours, all_of_it = map(locked, LOCKS)
    assert {name_of(one) for one in [*project["project"]["dependencies"], *groups["build"]]} <= set(map(name_of, ours))
    assert set(map(name_of, groups["dev"])) <= set(map(name_of, all_of_it))
    pins = {entry.splitlines()[0] for entry in ours}
    assert pins <= {entry.splitlines()[0] for entry in all_of_it}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_what_a_mac_installs_is_wheels_alone(python: str, tmp_path: Path) -> None:
    """On macOS 14 and Apple silicon: a package of source alone would be built on every user's machine."""
    platform = ("--python-platform", "aarch64-apple-darwin", "--python-version", python, "--target", str(tmp_path))
    command = ("pip", "install", "--dry-run", "--only-binary", ":all:", "--require-hashes", "-r", "requirements.lock")
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"}
    done = subprocess.run(
        [ROOT / ".tools" / "uv" / "bin" / "uv", *command, *platform],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    if re.search(r"[Ff]ailed to fetch|dns error|[Cc]onnection|timed out", done.stderr):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    assert "mlx-metal" in done.stderr + done.stdout


def test_the_newest_entry_of_the_changelog_is_the_package_version() -> None:
    newest = re.search(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == tomllib.loads(read("pyproject.toml"))["project"]["version"]


def test_ci_runs_the_command_of_a_developer() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "make test" in script.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", ["engines", "files", "http_server", "mcp_server", "openai_compat", "daemon", "demo"])
def test_no_installed_distribution_but_ours_provides_our_modules(name: str) -> None:
    assert set(packages_distributions().get(name, [])) <= {OURS}


def test_the_floor_that_publishes_files_imports_the_standard_library_alone() -> None:
    for path in (ROOT / "files").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= {*sys.stdlib_module_names, "files"}, path.name
