"""The media process through its client: what it gives, and what its crashes, hangs and limits cost."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from pathlib import Path

import numpy as np
import psutil
import pytest

from engines.ipc import job, media_protocol
from engines.media import client
from engines.media.client import WHOLE, DecodeProgress, Ending, Media, PieceOptions, RecordingPiece, Selection
from engines.media.worker import jobs
from engines.types.errors import InternalError, InvalidRequest, RunnerDied, ShuttingDown, Stalled
from tests.engines.media.worker.audio.sounds import decibel, file_of, noise, speechlike, tone, wav, write
from tests.promises import promise

HEAD = """
import socket, sys, time
from engines.ipc import media_protocol
from engines.ipc.runner_protocol import encode
"""
LINK = HEAD + "link = socket.socket(fileno=int(sys.argv[1])); "
SILENT = "import time; time.sleep(60)"
GARBAGE = LINK + "link.sendall((7).to_bytes(4, 'big') + b'garbage'); time.sleep(60)"
ENDS = "import sys; sys.exit(3)"
OUT_OF_TURN = LINK + "link.sendall(encode(media_protocol.Turn(1))); time.sleep(60)"


def run(body: Callable[[Media], Coroutine[None, None, None]], patience: float = 60.0, code: str = "") -> None:
    async def main() -> None:
        command = ("-P", "-c", code) if code else client.COMMAND
        async with asyncio.timeout(60), Media(patience, command) as media:
            await body(media)

    asyncio.run(main())
    assert not [child for child in psutil.Process().children() if "engines.media.worker.main" in child.cmdline()]


async def all_of(
    media: Media, path: str, longest: float = 30.0, selection: Selection = WHOLE
) -> tuple[list[RecordingPiece], Ending]:
    async with aclosing(media.pieces(path, PieceOptions(longest, selection=selection))) as events:
        *pieces, ending = [event async for event in events if not isinstance(event, DecodeProgress)]
    assert isinstance(ending, Ending)
    return [piece for piece in pieces if isinstance(piece, RecordingPiece)], ending


def sentences(number: int, rest: float = 2.5) -> bytes:
    """Four seconds of sound each, and a pause."""
    pause = noise(rest, 1e-4)
    return wav(np.concatenate([x for seed in range(number) for x in (speechlike(4.0, seed=seed), pause)]), 16_000)


@promise("core:watchdog:idle")
def test_an_idle_process_that_hangs_is_noticed_and_the_next_job_has_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, sentences(1))
    monkeypatch.setattr(client, "PING_SECONDS", 0.1)

    async def body(media: Media) -> None:
        await all_of(media, path)
        hung = media.pid
        assert hung is not None and media._link is not None
        while not media._link._has_answered:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        monkeypatch.setattr(client, "LATE_SECONDS", 0.3)
        os.kill(hung, signal.SIGSTOP)
        while not media.is_late:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        monkeypatch.setattr(client, "LATE_SECONDS", 10.0)
        media._link._silent = 11.0
        await all_of(media, path)
        assert media.pid not in (None, hung) and not media.is_late

    run(body)


def test_a_process_that_nobody_needs_ends_and_the_next_job_starts_another(tmp_path: Path) -> None:
    path = write(tmp_path, sentences(1))

    async def main() -> None:
        async with asyncio.timeout(60), Media(idle=0.2) as media:
            async with media.encoder("pcm", 24_000, whole=False) as file:
                first = media.pid
                await asyncio.sleep(0.5)  # longer than it may be idle, but it has a job
                assert media.pid == first is not None
                await file.feed(bytes(4 * 2400))
                await file.finish()
            assert media._link is not None
            await media._link.gone.wait()
            pieces, _ = await all_of(media, path)
            assert len(pieces) == 1 and media.pid not in (None, first)

    asyncio.run(main())
    assert not [child for child in psutil.Process().children() if "engines.media.worker.main" in child.cmdline()]


def test_a_recording_comes_in_pieces_with_true_times(tmp_path: Path) -> None:
    path = write(tmp_path, sentences(5))

    async def body(media: Media) -> None:
        assert media.pid is None
        pieces, ending = await all_of(media, path)
        assert [piece.start for piece in pieces] == [pytest.approx(max(0, 6.5 * n - 0.5), abs=0.1) for n in range(5)]
        for piece in pieces:
            assert len(piece.samples) == round((piece.end - piece.start) * 16_000) * 4
            assert piece.end - piece.start == pytest.approx(4.8, abs=0.4)
            assert decibel(np.frombuffer(piece.samples, "<f4")) > -30
            assert piece.end <= piece.done <= 32.5 and piece.total == pytest.approx(32.5)
        assert ending == Ending(32.5, cut=False)

    run(body)


def test_a_piece_larger_than_a_frame_arrives_whole(tmp_path: Path) -> None:
    sound = speechlike(100.0)
    path = write(tmp_path, wav(sound, 16_000, 32, is_float=True))

    async def body(media: Media) -> None:
        (piece,), ending = await all_of(media, path, longest=120.0)
        assert len(piece.samples) > 3 * media_protocol.MAX_DATA
        assert piece.samples == np.clip(sound, -1, 1).tobytes() and ending.seconds == 100.0

    run(body)


def test_only_a_few_pieces_are_made_ahead(tmp_path: Path) -> None:
    path = write(tmp_path, sentences(40))

    async def body(media: Media) -> None:
        async with aclosing(media.pieces(path, PieceOptions())) as events:
            dones = []
            async for event in events:
                if isinstance(event, RecordingPiece):
                    dones.append(event.done - event.end)
                    assert (await media.decode(path, 8_000, 1000.0)).seconds == 260.0  # time to run ahead
                if len(dones) == 8:
                    break
        assert max(dones) < 40

    run(body)


def test_progress_is_told_while_there_is_nothing_but_silence(tmp_path: Path) -> None:
    hours = file_of("flac", np.concatenate([np.zeros(1_000 * 4000, np.float32), speechlike(3.0, rate=1_000)]), 1_000)
    path = write(tmp_path, hours)

    async def body(media: Media) -> None:
        async with aclosing(media.pieces(path, PieceOptions())) as events:
            told = [event async for event in events]
        progress = [event for event in told if isinstance(event, DecodeProgress)]
        assert progress and isinstance(told[-2], RecordingPiece) and told[-1] == Ending(4003.0, cut=False)
        assert all(event.total == pytest.approx(4003.0) for event in progress)
        assert [event.done for event in progress] == sorted(event.done for event in progress)

    run(body)


def test_clips_come_whole_at_the_rate_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, file_of("mp3", tone(5.0, 44_100, 500), 44_100, "stereo"), "voice.wav")

    async def body(media: Media) -> None:
        for rate in (16_000, 24_000):
            decoded = await media.decode(path, rate, 15.0)
            assert len(decoded.samples) == round(decoded.seconds * rate) * 4
            assert decoded.seconds == pytest.approx(5.0, abs=0.05) and not decoded.cut
        with pytest.raises(InvalidRequest, match="longer than 3 seconds"):
            await media.decode(path, 16_000, 3.0)
        with pytest.raises(InvalidRequest, match="no such file"):
            await media.decode(str(tmp_path / "none"), 16_000, 3.0)

    run(body)


def test_files_are_made_by_the_process_and_can_be_read_again(tmp_path: Path) -> None:
    sound = np.concatenate([speechlike(4.0, rate=24_000, seed=seed) for seed in range(8)])  # more than a frame holds

    async def body(media: Media) -> None:
        for format, whole in (("wav", True), ("wav", False), ("mp3", False), ("flac", True)):
            async with media.encoder(format, 24_000, None, 0.8, whole) as encoder:  # type: ignore[arg-type]
                made = [await encoder.feed(sound[:1000].tobytes()), await encoder.feed(sound[1000:].tobytes())]
                assert bool(made[1]) != whole
                made.append(await encoder.finish())
            decoded = await media.decode(write(tmp_path, b"".join(made)), 24_000, 1000.0)
            assert decoded.seconds == pytest.approx(40.0, abs=0.08)
        with pytest.raises(InvalidRequest, match="speed"):
            async with media.encoder("wav", 24_000, speed=9.0):
                pytest.fail("entered")
        sound[7] = np.nan
        async with media.encoder("mp3", 24_000) as encoder:
            with pytest.raises(InternalError, match="aren't numbers"):
                await encoder.feed(sound.tobytes())

    run(body)


def test_many_things_are_done_at_a_time(tmp_path: Path) -> None:
    path = write(tmp_path, sentences(3))

    async def body(media: Media) -> None:
        async def speak(number: int) -> int:
            async with media.encoder("opus", 24_000) as encoder:
                for _ in range(5):
                    await encoder.feed(tone(1.0 + number, 24_000).tobytes())
                return len(await encoder.finish())

        heard = asyncio.gather(*(all_of(media, path) for _ in range(34)))
        sizes = await asyncio.gather(*(speak(number) for number in range(10)))
        results = await heard
        assert all(result == results[0] for result in results) and sizes == sorted(sizes)

    run(body)


async def _threads_until(media: Media, wanted: Callable[[int], bool]) -> None:
    assert media.pid is not None
    process = psutil.Process(media.pid)
    while not wanted(process.num_threads()):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def test_what_nobody_wants_any_more_ends_at_once(tmp_path: Path) -> None:
    """Jobs that wait for their client, and one in the middle of its work: the threads they have end."""
    paused = write(tmp_path, sentences(40), "paused")
    busy = write(tmp_path, file_of("mp3", np.zeros(8_000 * 60, np.float32), 8_000) * 600, "busy")

    async def body(media: Media) -> None:
        await media.decode(paused, 8_000, 1000.0)
        assert media.pid is not None
        await _threads_until(media, lambda number: number <= 3)
        idle = psutil.Process(media.pid).num_threads()
        async with aclosing(media.pieces(paused, PieceOptions())) as first, media.encoder("mp3", 24_000) as encoder:
            await anext(first)
            await encoder.feed(tone(1.0, 24_000).tobytes())
            paused_ones = psutil.Process(media.pid).num_threads()
            assert paused_ones >= idle + 2
            task = asyncio.create_task(all_of(media, busy))
            await _threads_until(media, lambda number: number > paused_ones)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            began = time.monotonic()
            await _threads_until(media, lambda number: number == paused_ones)
        await _threads_until(media, lambda number: number == idle)
        assert time.monotonic() - began < 1.0
        assert not media._link or not media._link._lines

    run(body)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_costs_what_was_in_the_process_and_nothing_after_it(tmp_path: Path, end: signal.Signals) -> None:
    path = write(tmp_path, sentences(12))

    async def body(media: Media) -> None:
        async with aclosing(media.pieces(path, PieceOptions())) as events, media.encoder("mp3", 24_000) as encoder:
            await anext(events)
            first = media.pid
            assert first is not None
            os.kill(first, end)
            with pytest.raises(RunnerDied, match="Try again"):
                while True:
                    await anext(events)
            with pytest.raises(RunnerDied):
                await encoder.feed(tone(1.0).tobytes())
            pieces, ending = await all_of(media, path)
            assert len(pieces) == 12 and not ending.cut and media.pid != first

    run(body)


async def impatient(media: Media, path: str) -> int:
    """From now on, this process is given a second and a half; its pid. Another one may take its time to start."""
    await media.decode(path, 8_000, 1000.0)
    assert media._link is not None and media.pid is not None
    media._link._patience = 1.5
    return media.pid


def test_a_process_that_hangs_is_ended_and_replaced(tmp_path: Path) -> None:
    path = write(tmp_path, sentences(3))

    async def body(media: Media) -> None:
        stopped = await impatient(media, path)
        os.kill(stopped, signal.SIGSTOP)
        with pytest.raises(Stalled):
            await media.decode(path, 8_000, 1000.0)
        assert len((await all_of(media, path))[0]) == 3
        assert not psutil.pid_exists(stopped)

    run(body)


def test_a_job_that_hangs_after_it_was_cancelled_is_the_end_of_its_process(tmp_path: Path) -> None:
    path = write(tmp_path, sentences(12))

    async def body(media: Media) -> None:
        stopped = await impatient(media, path)
        async with aclosing(media.pieces(path, PieceOptions())) as events:
            await anext(events)
            os.kill(stopped, signal.SIGSTOP)
        while media.pid is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert len((await all_of(media, path))[0]) == 12

    run(body)


def test_a_client_that_takes_its_time_is_not_taken_for_a_process_that_hangs(tmp_path: Path) -> None:
    path = write(tmp_path, sentences(10))

    async def body(media: Media) -> None:
        pid = await impatient(media, path)
        async with aclosing(media.pieces(path, PieceOptions())) as events, media.encoder("mp3", 24_000) as encoder:
            await anext(events)
            await asyncio.sleep(2.5)
            rest = [event async for event in events if isinstance(event, RecordingPiece)]
            assert await encoder.feed(tone(1.0, 24_000).tobytes()) == b"" and await encoder.finish()
            assert len(rest) == 9 and media.pid == pid

    run(body)


@pytest.mark.parametrize(("code", "error"), [(SILENT, Stalled), (GARBAGE, RunnerDied), (ENDS, RunnerDied)])
def test_a_process_that_makes_no_sense_is_an_error(tmp_path: Path, code: str, error: type[Exception]) -> None:
    async def body(media: Media) -> None:
        with pytest.raises(error):
            await media.decode("x", 16_000, 1.0)
        with pytest.raises(error):
            async with media.encoder("wav", 24_000):
                pytest.fail("entered")

    run(body, patience=1.0, code=code)


def test_an_encoder_that_hangs_speaks_of_its_format_and_not_of_a_file() -> None:
    async def body(media: Media) -> None:
        with pytest.raises(Stalled, match="could not be written as opus"):
            async with media.encoder("opus", 24_000):
                pytest.fail("entered")
        with pytest.raises(Stalled, match="file damaged"):
            await media.decode("x", 16_000, 1.0)

    run(body, patience=1.0, code=SILENT)


def test_an_answer_out_of_turn_is_an_error() -> None:
    async def body(media: Media) -> None:
        with pytest.raises(InternalError):
            await media.decode("x", 16_000, 1.0)

    run(body, code=OUT_OF_TURN)


def test_who_is_served_when_the_server_stops_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, sentences(12))

    async def body(media: Media) -> None:
        async def listen() -> None:
            async with media.encoder("mp3", 24_000) as encoder:
                while True:
                    await encoder.feed(tone(1.0, 24_000).tobytes())

        task = asyncio.create_task(listen())
        await media.decode(path, 8_000, 1000.0)
        await media.close()
        with pytest.raises(ShuttingDown):
            await task
        with pytest.raises(ShuttingDown):
            await media.decode(path, 8_000, 1000.0)

    run(body)


def test_the_process_ends_with_the_server_however_that_ends(tmp_path: Path) -> None:
    code = (
        "import asyncio, os\n"
        "from engines.media.client import Media\n"
        "async def main():\n"
        "    media = Media()\n"
        "    try: await media.decode('/nowhere', 16000, 1.0)\n"
        "    except Exception: pass\n"
        "    print(media.pid, flush=True); os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=60)
    process = psutil.Process(int(done.stdout)) if psutil.pid_exists(int(done.stdout)) else None
    assert done.returncode == -9 and (process is None or process.wait(10) is not Ellipsis)


def test_the_server_imports_neither_numpy_nor_the_library() -> None:
    code = "import sys, engines.media.client; assert not {'numpy', 'av', 'mlx'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("used", "addressed", "error"),
    [
        (300 << 20, 6 << 30, RunnerDied),
        pytest.param(
            3 << 30, 700 << 20, InvalidRequest, marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux")
        ),
    ],
)
def test_memory_beyond_the_limit_is_an_error(tmp_path: Path, used: int, addressed: int, error: type[Exception]) -> None:
    """A small file that is long; here it is allowed to be."""
    path = write(tmp_path, file_of("flac", np.zeros(1_000 * 3000, np.float32), 1_000))
    code = (
        "from engines.media.worker import main\n"
        f"main.MOST_MEMORY, main.MOST_ADDRESSES = {used}, {addressed}\n"
        "main.main()"
    )

    async def body(media: Media) -> None:
        with pytest.raises(error, match=r"memory|Try again"):
            await media.decode(path, 48_000, 1e6)
        with pytest.raises(InvalidRequest, match="longer"):
            await media.decode(path, 16_000, 5.0)

    run(body, code=code)


def test_a_job_that_takes_too_much_work_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MOST_CPU_SECONDS", -1e9)
    said: list[media_protocol.Report] = []
    jobs.MediaJob(media_protocol.Clip(1, write(tmp_path, sentences(1)), 16_000, 60.0), said.append).run()
    (failed,) = said
    assert isinstance(failed, job.Failed) and "too long to decode" in failed.failure.message


def test_an_encoder_without_memory_speaks_of_the_text_and_its_format(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(jobs, "FileEncoder", without_memory)
    said: list[media_protocol.Report] = []
    jobs.MediaJob(media_protocol.Encode(1, "flac", 24_000, None, 1.0, True), said.append).run()
    (failed,) = said
    assert isinstance(failed, job.Failed) and failed.failure.param == "input" and "flac" in failed.failure.message


async def _resident(media: Media, path: str, longest: float) -> AsyncIterator[int]:
    """Bytes of memory of the process, as pieces come."""
    async with aclosing(media.pieces(path, PieceOptions(longest=longest))) as events:
        async for _ in events:
            assert media.pid is not None
            yield psutil.Process(media.pid).memory_info().rss


@pytest.mark.parametrize("minutes", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_a_long_recording_costs_no_more_memory_than_a_short_one(tmp_path: Path, minutes: int) -> None:
    sound = np.tile(np.concatenate([speechlike(28.0, rate=44_100), noise(2.0, 1e-4, 44_100)]), 2)
    short = write(tmp_path, file_of("mp3", sound, 44_100), "short")
    long = write(tmp_path, Path(short).read_bytes() * minutes, "long")

    async def body(media: Media) -> None:
        base = max([size async for size in _resident(media, short, 30.0)])
        began, sizes = time.monotonic(), [size async for size in _resident(media, long, 30.0)]
        took = time.monotonic() - began
        print(f"{minutes} minutes in {took:.2f} s, {max(sizes) >> 20} MiB, a minute {base >> 20} MiB")  # noqa: T201
        assert len(sizes) >= 2 * minutes and max(sizes) < base + (16 << 20) and max(sizes) < 200 << 20

    run(body)
