"""Every fenced command and program of the README, SKILL.md, the references and the docs runs, against a demo server."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.recordings import recordings
from tests.end_to_end.conftest import LOCAL, Service, started
from tests.promises import promise

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "SKILL.md", *sorted(ROOT.glob("references/*.md")), *sorted(ROOT.glob("docs/*.md"))]
FENCED = re.compile(r"^```(sh|python)\n(.*?)^```", re.S | re.M)
# They made the environment of this test, or started it; or they take an hour (`tests/demo` runs their parts).
MAKES_OR_TESTS = re.compile(r"make (install|check|test|test-slow|soak|bench\w*)\b|.*python -m training\b")


def examples(kind: str) -> list[str]:
    """Programs, or single commands with their continued lines and without their comments."""
    blocks = [text for page in PAGES for it, text in FENCED.findall(page.read_text(encoding="utf-8")) if it == kind]
    if kind == "python":
        return blocks
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Its answers are short, whatever the toys say."""
    with started(tmp_path_factory.mktemp("home"), "--context-limit", "1000") as made:
        recording = next(one for one in recordings() if one.language == "zh")
        shutil.copy(recording.path, made.home / "audio.wav")  # told by its content, not by its name
        yield made


def environment(service: Service) -> dict[str, str]:
    """Of a user for whom this service is the service, without a network."""
    ours = {"MLX_LOCAL_URL": service.url, "MLX_LOCAL_PORT": "0", "MLX_LOCAL_AUDIO_PORT": "0"}
    return {**os.environ, **ours, "HOME": str(service.home), "HF_ENDPOINT": "http://127.0.0.1:9", "NO_COLOR": "1"}


def at(service: Service, text: str) -> str:
    text = re.sub(r"http://(localhost|127\.0\.0\.1):8787", service.url, text)
    return re.sub(r"http://(localhost|127\.0\.0\.1):8788", service.audio_url, text)


def recipe(target: str) -> str:
    """What `make TARGET` runs, its prerequisites aside."""
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert found is not None, target
    return found[1].replace("\t", "").replace("$(BIN)/", ".venv/bin/").strip()


@promise("docs:examples")
@pytest.mark.parametrize("command", [one for one in examples("sh") if not MAKES_OR_TESTS.match(one)])
def test_every_command_runs(service: Service, command: str) -> None:
    if command.startswith("curl") and shutil.which("curl") is None:
        pytest.skip("there is no curl")
    line = recipe(command.split()[1]) if command.startswith("make ") else command
    line = re.sub(r"^(\.venv/bin/)?mlx-local\b", lambda _: shlex.join(LOCAL), at(service, line))
    shell = ["bash", "-c", f"exec {line}" if " serve" in line else line]
    folder = service.home if line.startswith("curl") else ROOT
    if re.search(r"mlx_local_inference serve\b", line):
        _serves(shell, service)
        return
    asked = "What can you do?\n"  # which the toys always answer
    ended = subprocess.run(
        shell, input=asked, capture_output=True, text=True, timeout=100, cwd=folder, env=environment(service)
    )
    assert "Traceback" not in ended.stderr
    if " models pull " in command:
        assert ended.returncode == 1 and "127.0.0.1:9" not in ended.stdout  # there is no network here
        return
    assert ended.returncode == 0, ended.stderr
    assert command != "make demo" or ended.stderr == ""  # a page that a person reads: no lines of a log
    if written := re.search(r" -o (\S+)", line):
        assert (folder / written[1]).read_bytes()[:4] == b"RIFF"
    else:
        assert ended.stdout.strip() and '"error"' not in ended.stdout


def _serves(shell: list[str], service: Service) -> None:
    """Until it says that it is ready: it would run for ever."""
    with subprocess.Popen(shell, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment(service)) as server:
        assert server.stdout is not None
        try:
            assert "eady" in server.stdout.readline()
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0


@pytest.mark.parametrize("program", examples("python"))
def test_every_program_runs(service: Service, program: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", at(service, program)],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=ROOT,
        env=environment(service),
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip()


def test_the_examples_are_found() -> None:
    commands = examples("sh")
    assert any(one.startswith("curl") and "messages" in one for one in commands)
    assert {"make demo", "make serve", "make test"} <= set(commands)
