"""Processor seconds an output token, of the whole process tree: what levels measured."""

from bench.session import BenchSession


async def measure(session: BenchSession) -> None:
    for level in session.levels:
        key = f"cost/{level.checkpoint.label}/{level.streams}/cpu"
        session.figures.add(key, level.contender, level.run.cpu_per_token)
