"""Streams that begin all at once: output per second, first token, gaps between tokens."""

from bench.checkpoints.chat import RandomCheckpoint
from bench.prompts import Prompts
from bench.session import BenchSession, Level
from bench.streams import percentile


async def measure(session: BenchSession) -> None:
    for rows in session.scale.vocabularies:
        await _measure(session, session.checkpoint(rows))


async def _measure(session: BenchSession, checkpoint: RandomCheckpoint) -> None:
    scale = session.scale
    prompts = Prompts(checkpoint.folder)
    async with session.contenders(checkpoint) as every:
        for number in range(session.rounds):
            for streams in scale.levels:
                session.say(f"levels: {checkpoint.label}, round {number + 1}, {streams} streams")
                asks = [
                    prompts.of_length(scale.prompt, scale.new, f"level {number} {streams} {place}")
                    for place in range(streams)
                ]
                for contender in session.turns(every, number):
                    run = await session.measured(contender, asks)
                    level = Level(checkpoint, streams, contender.name, run)
                    session.levels.append(level)
                    _record(session, level)


def _record(session: BenchSession, level: Level) -> None:
    run = level.run
    values = {
        "rate": run.rate,
        "first": run.first,
        "gap_p50": percentile(run.gaps, 0.5),
        "gap_p99": percentile(run.gaps, 0.99),
    }
    for line, value in values.items():
        session.figures.add(f"levels/{level.checkpoint.label}/{level.streams}/{line}", level.contender, value)
