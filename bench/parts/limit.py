"""How near one stream runs to the device's limit: bytes a step must read × steps per second ÷ bandwidth."""

from bench.contenders import in_process
from bench.session import BenchSession


async def measure(session: BenchSession) -> None:
    speeds = await _bandwidth(session)
    best = max(speeds.values())
    for name, speed in speeds.items():
        session.figures.add(f"limit/bandwidth/{name}/gb_per_s", "device", speed / 1e9)
    for level in session.levels:
        if level.streams != 1:
            continue
        stream = level.run.streams[0]
        read = level.checkpoint.bytes_per_step(stream.prompt_tokens + stream.tokens / 2)
        session.figures.add(f"limit/{level.checkpoint.label}/fraction", level.contender, read / stream.step / best)


async def _bandwidth(session: BenchSession) -> dict[str, float]:
    session.say("limit: the device's bandwidth")
    batch = in_process.batches(session.small, session.threads, session.logs)[0]
    try:
        await batch.start()
        return await batch.bandwidth(session.scale.bandwidth_mb)
    finally:
        await batch.stop()
