"""Recordings and speech: how fast beside mlx-audio's own `generate` and server, how much memory, what a chat feels."""

import asyncio
import contextlib
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import peak, processes, sounds
from bench.checkpoints import audio as audio_checkpoints
from bench.contenders import mlx_audio_server, servers
from bench.contenders.in_process import MlxAudioInProcess
from bench.contenders.mlx_audio_server import MlxAudioServer
from bench.contenders.names import LIBRARY, OURS
from bench.contenders.protocol import AudioContender
from bench.contenders.servers import OurServer
from bench.libraries.jobs import KINDS, AudioAnswer, AudioKind, model_of
from bench.prompts import Prompts
from bench.session import BenchSession
from bench.streams import BenchFailed, percentile
from engines.models.registry import QWEN3_ASR, WHISPER

MB = 1e6
LETTERS_A_SECOND = 12  # of ordinary reading, blanks included
SAMPLE = "The quick brown fox jumps over the lazy dog and then walks home along the old river by night "
SAME_SECONDS = 0.5  # so much may the sound of two contenders differ in length
PIECES = {name: entry.pieces.seconds for name, entry in (("qwen3-asr", QWEN3_ASR), ("whisper", WHISPER))}


async def measure(session: BenchSession) -> None:
    session.say("audio: checkpoints and recordings")
    chat = audio_checkpoints.make(session.work, session.scale)
    recordings = AudioSamples(session)
    ours = servers.ours(chat, session.threads, session.logs)
    try:
        await ours.start()
        for kind in KINDS:
            await _kind(session, recordings, ours, kind, chat.folder.parent / model_of(kind))
        await _chat(session, recordings, ours, chat.folder)
        await _memory(session, recordings, ours)
    finally:
        await ours.stop()


class AudioSamples:
    """Files of sound, and texts of about as many seconds as the models speak."""

    def __init__(self, session: BenchSession) -> None:
        self._scale = session.scale.audio
        self._folder = session.work / "recordings"
        self._folder.mkdir(exist_ok=True)

    def messages(self, count: int) -> list[Path]:
        return [self._speech(self._scale.seconds, seed) for seed in range(count)]

    def long(self) -> Path:
        return self._speech(self._scale.long_seconds, 100)

    def sparse(self, seconds: float, bursts: int) -> Path:
        path = self._folder / f"sparse-{seconds:g}-{bursts}-{self._scale.burst:g}.wav"
        if not path.exists():
            sounds.write_sparse(path, seconds, bursts, self._scale.burst)
        return path

    def texts(self, count: int) -> list[str]:
        letters = round(self._scale.frames / 12.5 * LETTERS_A_SECOND)
        return [
            f"{(SAMPLE * (1 + letters // len(SAMPLE)))[place : place + letters].strip()}." for place in range(count)
        ]

    def _speech(self, seconds: float, seed: int) -> Path:
        path = self._folder / f"speech-{seconds:g}-{seed}.wav"
        if not path.exists():
            sounds.write(path, sounds.speech(seconds, seed))
        return path


async def _kind(
    session: BenchSession, recordings: AudioSamples, ours: OurServer, kind: AudioKind, folder: Path
) -> None:
    """One model, by turns; the library's process and its server live only meanwhile."""
    library = MlxAudioInProcess(kind, folder, PIECES.get(kind, 0.0), session.threads, session.logs)
    theirs = MlxAudioServer(folder, PIECES.get(kind, 0.0), session.threads, session.logs)
    every: list[AudioContender] = [library, ours, theirs]
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(library.stop)
        await library.start()
        session.device = session.device or await library.device()
        up: dict[str, AudioContender] = {}
        for contender in every:
            with session.left_out_if_it_fails(contender.name):
                if contender is theirs:
                    mlx_audio_server.check(session.device)
                    stack.push_async_callback(theirs.stop)
                    await theirs.start()
                await _asked(session, recordings, contender, kind, 1, streamed=True)
                await processes.settled(contender.process)
                session.remember_blas(contender.name, contender.process)
                up[contender.name] = contender
        for number in range(session.rounds):
            session.say(f"audio: {kind}, round {number + 1}")
            await _round(session, recordings, up, kind, number)


async def _round(
    session: BenchSession, recordings: AudioSamples, up: dict[str, AudioContender], kind: AudioKind, number: int
) -> None:
    """Whoever fails is no longer `up`."""
    for count in (1, session.scale.audio.at_once):
        runs: dict[str, list[AudioAnswer]] = {}
        for contender in session.turns(list(up.values()), number):
            with _leaving_out(session, up, contender.name):
                runs[contender.name] = await _measured(session, recordings, contender, kind, count)
        for name in list(up):
            with _leaving_out(session, up, name):
                _compare(session, kind, name, runs[LIBRARY], runs[name])
    if kind == "qwen3-asr":
        for contender in session.turns(list(up.values()), number):
            with _leaving_out(session, up, contender.name):
                await _long(session, recordings, contender, kind)


@contextlib.contextmanager
def _leaving_out(session: BenchSession, up: dict[str, AudioContender], name: str) -> Iterator[None]:
    failed = True
    with session.left_out_if_it_fails(name):
        yield
        failed = False
    if failed:
        del up[name]


async def _measured(
    session: BenchSession, recordings: AudioSamples, contender: AudioContender, kind: AudioKind, count: int
) -> list[AudioAnswer]:
    before = processes.cpu_seconds(contender.process)
    answers = await _asked(session, recordings, contender, kind, count, streamed=False)
    cpu = processes.cpu_seconds(contender.process) - before
    told = answers
    if contender.name != OURS and kind != "whisper":  # its `generate` tells nothing before its end
        told = await _asked(session, recordings, contender, kind, count, streamed=True)
    seconds = sum(answer.sound for answer in answers) or session.scale.audio.seconds * count
    took = min(elapsed(answers), elapsed(told))
    key, first = f"audio/{kind}/{count}", "first_sound" if kind == "qwen3-tts" else "first_text"
    session.figures.add(f"{key}/speed", contender.name, seconds / took)
    session.figures.add(f"{key}/{first}", contender.name, statistics.median(answer.wait for answer in told))
    session.figures.add(f"{key}/sound_cpu", contender.name, cpu / seconds)
    return answers


async def _asked(
    session: BenchSession,
    recordings: AudioSamples,
    contender: AudioContender,
    kind: AudioKind,
    count: int,
    *,
    streamed: bool,
) -> list[AudioAnswer]:
    if kind == "qwen3-tts":
        return await contender.speak(kind, recordings.texts(count), streamed=streamed)
    return await contender.listen(kind, recordings.messages(count), streamed=streamed)


async def _long(session: BenchSession, recordings: AudioSamples, contender: AudioContender, kind: AudioKind) -> None:
    (answer,) = await contender.listen(kind, [recordings.long()], streamed=False)
    told = answer
    if contender.name != OURS:
        (told,) = await contender.listen(kind, [recordings.long()], streamed=True)
    speed = session.scale.audio.long_seconds / min(elapsed([answer]), elapsed([told]))
    session.figures.add(f"audio/{kind}/long recording/speed", contender.name, speed)
    session.figures.add(f"audio/{kind}/long recording/first_text", contender.name, told.wait)


def elapsed(answers: Sequence[AudioAnswer]) -> float:
    """Seconds from the first question to the last answer."""
    return max(answer.ended for answer in answers) - min(answer.submitted for answer in answers)


def _compare(
    session: BenchSession, kind: AudioKind, name: str, library: Sequence[AudioAnswer], found: Sequence[AudioAnswer]
) -> None:
    """Raises `BenchFailed` if one spoke much longer than the other; another text is a note."""
    for one, other in zip(library, found, strict=True):
        if abs(one.sound - other.sound) > SAME_SECONDS:
            raise BenchFailed(f"{kind}: {other.sound:.1f} seconds were spoken where in process {one.sound:.1f} are")
        if one.text.split() != other.text.split():
            session.note(f"{kind}: what {name} writes down differs from in process (float noise, or a bug).")


async def _chat(session: BenchSession, recordings: AudioSamples, ours: OurServer, folder: Path) -> None:
    """A stream of chat alone, and while a long recording is written down again and again."""
    scale = session.scale
    prompts = Prompts(folder)
    asks = [prompts.of_length(scale.prompt, scale.audio.chat_new, f"chat {number}") for number in range(3)]
    await session.measured(ours, asks[:1])
    for number in range(session.rounds):
        session.say(f"audio: chat beside a recording, round {number + 1}")
        lonely = percentile((await session.measured(ours, asks[1:2])).gaps, 0.99)
        busy = asyncio.create_task(_again_and_again(ours, recordings.long()))
        try:
            await asyncio.sleep(0)
            run = await session.measured(ours, asks[2:])
        finally:
            busy.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await busy
        beside = percentile(run.gaps, 0.99)
        for line, value in {"alone": lonely, "while a recording is written down": beside}.items():
            session.figures.add(f"audio/chat {line}/gap_p99", OURS, value)
        session.figures.add("audio/chat while a recording is written down/gap_times", OURS, beside / lonely)


async def _again_and_again(ours: OurServer, path: Path) -> None:
    while True:
        await ours.listen("qwen3-asr", [path], streamed=True)


async def _memory(session: BenchSession, recordings: AudioSamples, ours: OurServer) -> None:
    """From the shortest recording to the longest; as much is said at a time in all of them."""
    scale = session.scale.audio
    peaks: list[float] = []
    for seconds, bursts in zip(scale.lengths, scale.bursts, strict=True):
        session.say(f"audio: memory for {length(seconds)}")
        path = recordings.sparse(seconds, bursts)
        async with peak.watched(ours.process) as found:
            (answer,) = await ours.listen("qwen3-asr", [path], streamed=True)
        peaks.append(found.bytes / MB)
        session.figures.add(f"audio/memory for {length(seconds)}/peak_mb", OURS, peaks[-1])
        session.figures.add(f"audio/memory for {length(seconds)}/takes", OURS, elapsed([answer]))
    for name, value in (("second", peaks[1]), ("longest", peaks[-1])):
        session.figures.add(f"audio/memory for the {name} recording/peak_growth", OURS, value / peaks[0])


def length(seconds: float) -> str:
    """In words."""
    for unit, size in (("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = seconds / size
            return f"{count:g} {unit}{'s' * (count != 1)}"
    return f"{seconds:g} seconds"
