"""Start to ready, memory before a model and after, and whether memory stays flat over many requests."""

import asyncio
from collections.abc import Callable

import psutil

from bench import processes
from bench.contenders.names import OURS
from bench.contenders.servers import OverHttp
from bench.prompts import Prompts
from bench.session import BenchSession

SAMPLES = 10
AT_ONCE = 8
TOKENS = 2
DIFFERENT = 50
MB = 1e6


async def measure(session: BenchSession) -> None:
    for number in range(session.rounds):
        session.say(f"start: round {number + 1}")
        for server in session.turns(session.servers(session.small), number):
            last = number == session.rounds - 1
            await _life(session, server, memory=last)


async def _life(session: BenchSession, server: OverHttp, *, memory: bool) -> None:
    try:
        with session.left_out_if_it_fails(server.name):
            await server.start()
            session.figures.add("start/ready", server.name, server.ready_seconds)
            if memory:
                await _memory(session, server)
    finally:
        await server.stop()


async def _memory(session: BenchSession, server: OverHttp) -> None:
    await processes.settled(server.process)
    _record(session, server, "before a model")
    ask = Prompts(session.small.folder).of_length(session.scale.short_prompt, TOKENS, "memory")
    await session.measured(server, [ask])
    await processes.settled(server.process)
    _record(session, server, "with a model")
    await _requests(session, server)


def _record(session: BenchSession, server: OverHttp, when: str) -> None:
    add = session.figures.add
    add(f"start/server {when}/pss_mb", server.name, processes.memory_bytes(server.process) / MB)
    # Largest first: before a model there is the spare alone, and with one the spare is the smaller.
    runners = sorted(_of_runners(server, processes.memory_bytes), reverse=True)
    for place, size in enumerate(runners):
        add(f"start/runner {place + 1} {when}/pss_mb", server.name, size / MB)
    add(f"start/all processes {when}/pss_mb", server.name, (processes.memory_bytes(server.process) + sum(runners)) / MB)


def _of_runners(server: OverHttp, measured: Callable[[psutil.Process], int]) -> list[int]:
    sizes = []
    for process in server.process.children(recursive=True):
        try:
            sizes.append(measured(process))
        except psutil.NoSuchProcess:
            continue
    return sizes


async def _requests(session: BenchSession, server: OverHttp) -> None:
    """Short prompts, some at a time; the growth is that after the first third.

    They repeat themselves: a prefix cache may keep each of them, and is full before the growth counts.
    """
    if server.name != OURS:
        return
    scale = session.scale
    prompts = Prompts(session.small.folder)
    different = [prompts.of_length(scale.short_prompt, TOKENS, f"request {number}") for number in range(DIFFERENT)]
    asks = [different[number % DIFFERENT] for number in range(scale.requests)]
    line = {"server": "requests/server/private_mb", "all": "requests/all processes/private_mb"}
    series: dict[str, list[float]] = {name: [] for name in line.values()}
    share = max(1, len(asks) // SAMPLES)
    for begin in range(0, len(asks), share):
        for place in range(begin, begin + share, AT_ONCE):
            await session.measured(server, asks[place : min(place + AT_ONCE, begin + share)])
        await asyncio.sleep(0.2)
        own = processes.private_bytes(server.process)
        series[line["server"]].append(own / MB)
        series[line["all"]].append((own + sum(_of_runners(server, processes.private_bytes))) / MB)
    for key, sizes in series.items():
        session.series[key] = {server.name: sizes}
        session.figures.add(key.replace("private_mb", "growth"), server.name, sizes[-1] / sizes[len(sizes) // 3])
