"""`make bench`: measures, prints tables, and one JSON document as the last line. Progress goes to stderr."""

import argparse
import asyncio
import datetime
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench import compare, goals, machine, report
from bench.contenders import names, servers
from bench.parts import arrival, audio, cost, levels, limit, prefix, start
from bench.scale import FULL, SHAPES
from bench.session import BenchSession
from bench.streams import BenchFailed

# In this order: cost and limit derive from what levels measured.
PARTS = {
    "levels": levels.measure,
    "arrival": arrival.measure,
    "prefix": prefix.measure,
    "start": start.measure,
    "audio": audio.measure,
    "cost": cost.measure,
    "limit": limit.measure,
}
DERIVED = {"cost", "limit"}
AGAINST = ("levels", "arrival", "prefix", "start")  # what two trees of this project are compared in

CAVEATS = (
    "Compare within this run alone, and ratios rather than figures: the machine, and what else runs on it, moves all.",
    "Checkpoints are random, and small unless --shape is large: what a server adds weighs more than with a real one.",
    "In process means token ids in and out, without HTTP, templates or text, and a prefix cache kept by hand.",
    "Of its two settings counts, at every level, the one with more tokens/s; both are in the table.",
    "The HTTP client shares the processor with the servers that it asks; its own time is not in the cost.",
    "A figure is the median of the rounds, a ratio that of the rounds' ratios.",
    "A p99 of one stream is nearly its worst gap, and so the least steady figure.",
    "In process, mlx-audio is given decoded sound, and does one request after the other, as its `generate` has it.",
    "Models that listen say as much of every piece, whatever is heard; those that speak, of every text.",
    "The bandwidth is the best of three ways to read a large array; weights in the processor's cache come faster.",
    "Memory is what the system counts: what a graphics card's own memory holds is not in it.",
)


def arguments_of(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--part", help="some of " + ",".join(PARTS))
    parser.add_argument("--rounds", type=int, help=f"how often each is measured in turn (default: {FULL.rounds})")
    parser.add_argument(
        "--shape",
        choices=[name for name in SHAPES if name != "quick"],
        default="small",
        help="the models that chat: small (6 layers x 512 in float32, for processors), or large (36 x 2560 in "
        "bfloat16, for GPUs; takes 10 GB of disk and 45 GB of memory) (default: small)",
    )
    parser.add_argument(
        "--vocabulary", help="sizes of vocabularies, with commas (default: small 4032,151936; large 151936)"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of the BLAS (default: all cores)")
    parser.add_argument("--work", type=Path, help="folder that keeps checkpoints and logs (default: a temporary one)")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="TREE",
        help="measure this tree's server and that of another checkout with a .venv, in turns: "
        f"{', '.join(AGAINST)}; prints the ratio of every line, and whether it is worse",
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run with tiny sizes; its figures mean nothing")
    arguments = parser.parse_args(words)
    if arguments.against is not None and not (arguments.against / ".venv" / "bin" / "python").exists():
        parser.error(f"there is no .venv in {arguments.against}: run make install there")
    arguments.part = arguments.part or ",".join(PARTS if arguments.against is None else AGAINST)
    if arguments.against is not None and not set(arguments.part.split(",")) <= set(AGAINST):
        parser.error(f"two trees are compared in {', '.join(AGAINST)}")
    unknown = set(arguments.part.split(",")) - PARTS.keys()
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if arguments.quick:
        if arguments.shape != "small":
            parser.error("--quick has sizes of its own: leave out --shape")
        arguments.shape = "quick"
    return arguments


async def measure(session: BenchSession, parts: Sequence[str]) -> None:
    wanted = set(parts) | ({"levels"} if DERIVED & set(parts) else set())
    for name, part in PARTS.items():
        if name in wanted:
            await part(session)


def caveats(session: BenchSession, *, quick: bool) -> list[str]:
    found = ["This was a smoke run with tiny sizes: its figures mean nothing."] if quick else []
    found += CAVEATS
    found += [f"{name} is not installed and was left out." for name in servers.not_installed()]
    others = f"Other work used {session.others.share():.0%} of the processor meanwhile"
    load = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores at the end"
    return [*found, f"{others} ({load}).", *session.notes]


def printed(session: BenchSession, parts: Sequence[str], *, quick: bool) -> str:
    values = session.figures.values()
    reached = goals.judge(goals.GOALS, values)
    ahead = goals.judge(goals.ahead(values), values)
    said = caveats(session, quick=quick)
    fields = {
        "bench": 1,
        "date": datetime.date.today().isoformat(),
        "quick": quick,
        "caveats": said,
        "machine": machine.describe(session.threads, session.blas, session.device),
        "parts": list(parts),
        "rounds": session.rounds,
        "scale": msgspec.to_builtins(session.scale),
        "medians": session.figures.medians(),
        "values": values,
        "series": session.series,
        "verdicts": reached,
        "ahead": ahead,
    }
    return f"{report.tables(said, values, reached, ahead)}\n{report.document(fields)}\n"


def compared(session: BenchSession, *, quick: bool) -> str:
    """This tree against another one."""
    lines = compare.compare(session.figures.values(), names.OURS, names.OTHER_TREE)
    fields = {
        "bench": 1,
        "date": datetime.date.today().isoformat(),
        "quick": quick,
        "machine": machine.describe(session.threads, session.blas, session.device),
        "rounds": session.rounds,
        "values": session.figures.values(),
        "lines": [{**msgspec.to_builtins(line), "worse": line.is_worse} for line in lines],
    }
    return f"{compare.table(lines)}{report.document(fields)}\n"


def main(words: Sequence[str]) -> int:
    arguments = arguments_of(words)
    scale = SHAPES[arguments.shape]
    if arguments.vocabulary:
        sizes = tuple(int(size) for size in arguments.vocabulary.split(","))
        scale = msgspec.structs.replace(scale, vocabularies=sizes)
    parts = arguments.part.split(",")
    with tempfile.TemporaryDirectory(prefix="mlx-local-bench-") as temporary:
        work = arguments.work or Path(temporary)
        session = BenchSession(
            scale, arguments.rounds or scale.rounds, arguments.threads, work.resolve(), arguments.against
        )
        try:
            asyncio.run(measure(session, parts))
        except BenchFailed as failure:
            sys.stderr.write(f"error: {failure}\n")
            return 1
        if arguments.against is None:
            sys.stdout.write(printed(session, parts, quick=arguments.quick))
        else:
            sys.stdout.write(compared(session, quick=arguments.quick))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
