"""A long prefix again, and a conversation that grows."""

import statistics
from collections.abc import Sequence

from bench.contenders.names import BATCH, BATCH_SMALL, OURS
from bench.contenders.protocol import ChatContender
from bench.prompts import Prompts, words
from bench.session import BenchSession
from bench.streams import BenchFailed
from engines.types.chat import Message

WINDOWS = 5


async def measure(session: BenchSession) -> None:
    checkpoint = session.small
    prompts = Prompts(checkpoint.folder)
    async with session.contenders(checkpoint) as every:
        for number in range(session.rounds):
            session.say(f"prefix: round {number + 1}")
            for contender in session.turns(every, number):
                await _repeated(session, prompts, contender, number)
        await _conversation(session, prompts, every)


async def _repeated(session: BenchSession, prompts: Prompts, contender: ChatContender, number: int) -> None:
    """Cold, with another question behind the same prefix, and the same request again."""
    scale = session.scale
    shared = Message("system", words(scale.long_prompt, f"prefix {number}"))
    one, other = (
        prompts.ask([shared, Message("user", words(scale.short_prompt, f"{which} {number}"))], scale.few_new)
        for which in ("one", "other")
    )
    firsts: dict[str, float] = {}
    for line, ask in (("cold", one), ("other question", other), ("same again", other)):
        run = await session.measured(contender, [ask], keep=True)
        firsts[line] = run.first
        session.figures.add(f"prefix/{line}/first", contender.name, run.first)
    for line in ("other question", "same again"):
        session.figures.add(f"prefix/{line}/of_cold", contender.name, firsts[line] / firsts["cold"])


async def _conversation(session: BenchSession, prompts: Prompts, every: Sequence[ChatContender]) -> None:
    """Turn by turn for all; every next turn holds our server's answer, so that contexts are equal."""
    scale = session.scale
    # The two of mlx-lm in process differ by how they prefill alone: one speaks for both.
    speakers = [one for one in every if one.name != BATCH_SMALL]
    series: dict[str, dict[str, list[float]]] = {f"conversation/{line}": {} for line in ("first", "step", "context")}
    messages: list[Message] = []
    for turn in range(scale.turns):
        if turn % 10 == 0:
            session.say(f"prefix: turn {turn + 1} of the conversation")
        messages.append(Message("user", words(scale.turn_prompt, f"turn {turn}")))
        ask = prompts.ask(messages, scale.turn_new)
        texts: dict[str, str] = {}
        for contender in session.turns(speakers, turn):
            (stream,) = (await session.measured(contender, [ask], keep=True)).streams
            texts[contender.name] = stream.text or prompts.text(stream.ids)
            context = float(len(ask.ids))
            for line, value in (("first", stream.first), ("step", stream.step), ("context", context)):
                series[f"conversation/{line}"].setdefault(contender.name, []).append(value)
        messages.append(Message("assistant", texts[OURS]))
        if len({text.strip() for text in texts.values()}) > 1:  # mlx-lm drops an answer's first blank
            session.note("conversation: greedy answers differ between contenders in some turn (float noise, or a bug).")
    session.series |= series
    _summarise(session, series)


def _summarise(session: BenchSession, series: dict[str, dict[str, list[float]]]) -> None:
    for line in ("first", "step"):
        for name, values in series[f"conversation/{line}"].items():
            session.figures.add(f"conversation/{line}", name, statistics.median(values))
    steps = series["conversation/step"]
    for name, values in steps.items():
        if BATCH in steps:
            session.figures.add("conversation/worst step_ratio", name, worst_ratio(values, steps[BATCH]))


def worst_ratio(values: Sequence[float], base: Sequence[float]) -> float:
    """The highest, over stretches of the conversation, of the median ratio of a turn to that of the same turn."""
    if len(values) != len(base):
        raise BenchFailed("two conversations have different numbers of turns")
    ratios = [one / other for one, other in zip(values, base, strict=True)]
    size = -(-len(ratios) // WINDOWS)
    return max(statistics.median(ratios[begin : begin + size]) for begin in range(0, len(ratios), size))
