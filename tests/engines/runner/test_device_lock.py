"""Who takes turns with whom, and that a turn is one process's alone: with real processes, which are told what to do."""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.runner import device_lock
from engines.runner.device_lock import DeviceLock

OTHER = """
import fcntl, sys
from engines.runner import device_lock
mine = device_lock.DeviceLock(int(sys.argv[1]))
mine.share(True)
def somebody_waits():
    try:
        fcntl.lockf(mine._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, device_lock._NEXT)
    except (BlockingIOError, PermissionError):
        return True
    fcntl.lockf(mine._file, fcntl.LOCK_UN, 1, device_lock._NEXT)
    return False
device_lock.PATIENCE_SECONDS = 60.0
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

    def __init__(self, mine: DeviceLock) -> None:
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


def shared(file: IO[bytes]) -> DeviceLock:
    mine = DeviceLock(file.fileno())
    mine.share(True)
    return mine


def test_who_had_the_turn_has_it_again_only_after_who_waits(
    file: IO[bytes], other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_lock, "PATIENCE_SECONDS", 60.0)
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
    monkeypatch.setattr(device_lock, "PATIENCE_SECONDS", 60.0)
    other.does("take")
    stepping = Stepping(shared(file))
    other.does("see who waits")
    other.process.kill()
    stepping.finish()


def test_nobody_waits_for_ever_for_one_that_hangs(
    file: IO[bytes], other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_lock, "PATIENCE_SECONDS", 0.05)
    other.does("take")
    mine = shared(file)
    with mine.step():
        pass
    with mine.step():
        mine.pause()


def test_where_no_turns_are_taken_nobody_waits(file: IO[bytes], other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_lock, "PATIENCE_SECONDS", 1e9)
    other.does("take")
    with DeviceLock(file.fileno()).step():
        pass


def test_background_work_goes_on_while_the_account_lasts_and_then_lets_who_waits_go_on(
    file: IO[bytes], other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_lock, "PATIENCE_SECONDS", 60.0)
    monkeypatch.setattr(device_lock, "SHARE", 0.5)
    now = [0.0]
    chat, mine = (DeviceLock(file.fileno(), clock=lambda: now[0]) for _ in range(2))
    chat.share(True)
    mine.share(True, yields=True)
    for seconds in (0.008, 0.08):  # a long one among short ones counts as one of them
        with chat.step():
            now[0] += seconds
    with mine.step():
        other.tell("take")
        while other_waits(mine) is False:
            pass
        now[0] += 0.003
        assert mine.left() == pytest.approx(0.001) and mine.pause() == pytest.approx(0.003)
        assert mine._began == now[0] and mine.left() == pytest.approx(0.001)
        now[0] += 0.002
        assert mine.left() == 0.0
        thread = threading.Thread(target=mine.pause)
        thread.start()
        other.done()
        assert chat._read_budget()[0] == pytest.approx(-0.001)  # others see what is owed
        other.does("see who waits")
        other.does("give")
        thread.join(30)
        assert mine._began == now[0]


def test_background_work_that_nobody_waits_for_goes_on(file: IO[bytes]) -> None:
    now = [0.0]
    mine = DeviceLock(file.fileno(), clock=lambda: now[0])
    mine.share(True, yields=True)
    with mine.step():
        for _ in range(3):
            now[0] += 1.0
            assert mine.pause() == 1.0 and mine._began == now[0]
        assert mine._read_budget()[0] == -1.0  # and owes for the last of it alone


@given(st.lists(st.tuples(st.floats(0.001, 1.0), st.floats(0.0005, 0.5)), min_size=1))
def test_background_work_gets_its_share_of_a_chats_time_and_no_gap_grows_by_more_than_that_and_a_piece(
    history: list[tuple[float, float]],
) -> None:
    account = before = steps = spells = 0.0
    for step, piece in history:
        account = device_lock.paid_in(account, step, before)
        spell = 0.0
        while account > 0:
            account, spell = device_lock.drawn(account, piece), spell + piece
        assert spell <= device_lock.SHARE * min(step, before) + piece
        steps, spells, before = steps + min(step, before), spells + spell, step
    assert device_lock.SHARE * steps <= spells + 1e-6
    assert spells <= device_lock.SHARE * steps + max(piece for _, piece in history) + 1e-6


def test_nothing_is_saved_up_while_nobody_has_background_work() -> None:
    assert device_lock.paid_in(device_lock.paid_in(0.0, 8.0, 8.0), 2.0, 8.0) == 2.0 * device_lock.SHARE


def other_waits(mine: DeviceLock) -> bool:
    """Whether another process holds the place of the next."""
    if not mine._wait(device_lock._NEXT, until=mine._clock()):
        return True
    mine._free(device_lock._NEXT)
    return False


def test_turns_that_begin_or_end_in_mid_step_are_kept_from_the_next_pause_on(file: IO[bytes], other: Other) -> None:
    mine = DeviceLock(file.fileno())
    with mine.step():
        mine.share(True)
        mine.pause()
        other.tell("take")
        assert other.process.poll() is None
        mine.share(False)
        mine.pause()
        other.done()
