"""Who takes turns with whom, and that a turn is one process's alone: with real processes, which are told what to do."""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import IO

import pytest

from engines import turns
from engines.turns import Turns, are_taken
from engines.types import Capability

OTHER = """
import fcntl, sys
from engines import turns
mine = turns.Turns(int(sys.argv[1]))
mine.share(True)
def somebody_waits():
    try:
        fcntl.lockf(mine._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, turns._NEXT)
    except (BlockingIOError, PermissionError):
        return True
    fcntl.lockf(mine._file, fcntl.LOCK_UN, 1, turns._NEXT)
    return False
turns.PATIENCE_SECONDS = 60.0
for line in sys.stdin:
    if line == "take\\n":
        mine._take()
    elif line == "give\\n":
        mine._give()
    else:
        while not somebody_waits():
            pass
    print("done", flush=True)
"""


class Other:
    """Another runner's turns, in a process of its own."""

    def __init__(self, file: int) -> None:
        command = [sys.executable, "-P", "-c", OTHER, str(file)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(file,), text=True, encoding="utf-8"
        )

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def done(self) -> None:
        assert self.process.stdout is not None and self.process.stdout.readline() == "done\n"

    def does(self, word: str) -> None:
        self.tell(word)
        self.done()


@pytest.fixture
def file() -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as opened:
        yield opened


@pytest.fixture
def other(file: IO[bytes]) -> Iterator[Other]:
    made = Other(file.fileno())
    with made.process:
        yield made
        made.process.kill()


class Stepping:
    """Our own step, on a thread: it begins when its turn comes, and ends when it is told."""

    def __init__(self, mine: Turns) -> None:
        self.begun, self.end = threading.Event(), threading.Event()
        self._mine = mine
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        with self._mine.step():
            self.begun.set()
            assert self.end.wait(30)

    def finish(self) -> None:
        assert self.begun.wait(30)
        self.end.set()
        self.thread.join(30)


def shared(file: IO[bytes]) -> Turns:
    mine = Turns(file.fileno())
    mine.share(True)
    return mine


@pytest.mark.parametrize(
    ("does", "at_work", "taken"),
    [
        ("transcription", {"chat", "transcription"}, True),
        ("chat", {"chat", "transcription"}, True),
        ("alignment", {"chat"}, True),
        ("transcription", {"transcription", "alignment", "speech"}, False),
        ("chat", {"chat", "speech"}, False),
        ("speech", {"chat", "transcription"}, False),
        (None, {"chat", "transcription"}, False),
        ("chat", set(), False),
    ],
)
def test_a_chat_and_what_writes_down_take_turns_while_the_other_is_at_work(
    does: Capability | None, at_work: set[Capability | None], taken: bool
) -> None:
    assert are_taken(does, at_work) == taken


def test_who_had_the_turn_has_it_again_only_after_who_waits(
    file: IO[bytes], other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "PATIENCE_SECONDS", 60.0)
    other.does("take")
    stepping = Stepping(shared(file))
    other.does("see who waits")
    assert not stepping.begun.is_set()
    other.does("give")
    other.tell("take")
    assert stepping.begun.wait(30)
    stepping.finish()
    other.done()


def test_the_turn_of_a_process_that_ends_is_over(
    file: IO[bytes], other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "PATIENCE_SECONDS", 60.0)
    other.does("take")
    stepping = Stepping(shared(file))
    other.does("see who waits")
    other.process.kill()
    stepping.finish()


def test_nobody_waits_for_ever_for_one_that_hangs(
    file: IO[bytes], other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "PATIENCE_SECONDS", 0.05)
    other.does("take")
    mine = shared(file)
    with mine.step():
        pass
    with mine.step():
        mine.pause()


def test_where_no_turns_are_taken_nobody_waits(file: IO[bytes], other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE_SECONDS", 1e9)
    other.does("take")
    with Turns(file.fileno()).step():
        pass


def test_a_long_step_gives_its_turn_away_at_a_pause_and_has_it_back_later(
    file: IO[bytes], other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "PATIENCE_SECONDS", 60.0)
    now = [0.0]
    mine = Turns(file.fileno(), clock=lambda: now[0])
    mine.share(True)
    with mine.step():
        other.tell("take")
        mine.pause()
        assert mine._began == 0.0  # too short to be given away
        now[0] = 1.0
        while other_waits(mine) is False:
            pass
        thread = threading.Thread(target=mine.pause)
        thread.start()
        other.done()
        other.does("see who waits")
        other.does("give")
        thread.join(30)
        assert mine._began == 1.0


def other_waits(mine: Turns) -> bool:
    """Whether another process holds the place of the next."""
    if not mine._wait(turns._NEXT, until=mine._clock()):
        return True
    mine._free(turns._NEXT)
    return False


def test_turns_that_begin_or_end_in_mid_step_are_kept_from_the_next_pause_on(file: IO[bytes], other: Other) -> None:
    mine = Turns(file.fileno())
    with mine.step():
        mine.share(True)
        mine.pause()
        other.tell("take")
        assert other.process.poll() is None
        mine.share(False)
        mine.pause()
        other.done()
