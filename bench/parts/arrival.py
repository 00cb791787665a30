"""A long prompt arrives: what a running stream feels of it, and how long short prompts behind it wait."""

import statistics

from bench.contenders.protocol import ChatContender
from bench.prompts import Prompts
from bench.session import BenchSession
from bench.streams import Run, percentile


async def measure(session: BenchSession) -> None:
    checkpoint = session.small
    prompts = Prompts(checkpoint.folder)
    async with session.contenders(checkpoint) as every:
        for number in range(session.rounds):
            session.say(f"arrival: round {number + 1}")
            for contender in session.turns(every, number):
                await _running(session, prompts, contender, number)
                await _behind(session, prompts, contender, number)


async def _running(session: BenchSession, prompts: Prompts, contender: ChatContender, number: int) -> None:
    scale = session.scale
    lonely = prompts.of_length(scale.prompt, scale.running_new, f"lonely {number}")
    alone = await session.measured(contender, [lonely])
    running = prompts.of_length(scale.prompt, scale.running_new, f"running {number}")
    long = prompts.of_length(scale.long_prompt, scale.few_new, f"long {number}", after=scale.arrives_after)
    both = await session.measured(contender, [running, long])
    gap = largest_gap_after(both)
    if both.streams[0].arrivals[-1] < both.streams[1].arrivals[0]:
        session.note(f"arrival: {contender.name}'s running stream ended before the long prompt was read.")
    usual = percentile(alone.gaps, 0.99)
    values = {"lonely/gap_p99": usual, "running/gap_max": gap, "running/gap_ratio": gap / usual}
    for line, value in {**values, "long/first": both.streams[1].first}.items():
        session.figures.add(f"arrival/{line}", contender.name, value)


async def _behind(session: BenchSession, prompts: Prompts, contender: ChatContender, number: int) -> None:
    scale = session.scale
    asks = [prompts.of_length(scale.long_prompt, scale.few_new, f"ahead {number}")]
    asks += [
        prompts.of_length(scale.short_prompt, scale.few_new, f"short {number} {place}") for place in range(scale.shorts)
    ]
    run = await session.measured(contender, asks)
    first = statistics.median(stream.first for stream in run.streams[1:])
    session.figures.add("arrival/short behind long/first", contender.name, first)


def largest_gap_after(run: Run) -> float:
    """Of the first stream, among the gaps that end after the second was submitted."""
    running, arriving = run.streams
    pairs = zip(running.arrivals, running.arrivals[1:], strict=False)
    return max((later - earlier for earlier, later in pairs if later > arriving.submitted), default=0.0)
