"""`python -m training.measure qwen3|gemma3 FOLDER`: how often greedy answers are exactly right.

FOLDER holds what `train` wrote. What is asked here was never trained on: held-out questions, held-out cities, fresh
numbers and names. Thoughts don't count, only what follows them.
"""

import random
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import mlx_lm
from mlx_lm.generate import generate_step

from demo.checkpoints import trained_gemma3, trained_qwen3
from training import corpus, facts, tool_talk
from training.facts import Topic
from training.render import FAMILIES, Family, TrainingText
from training.talk import Conversation

LONGEST = 240
FRESH = 40
KNOWN = {name for place in facts.PLACES for name in (place.city, place.chinese_city)}


class ChatCase(NamedTuple):
    """What the model is given, and what it is to write."""

    prompt: list[TrainingText]
    wanted: str


class ExactFigure(NamedTuple):
    """How many of these were exactly right, and the first that were not."""

    name: str
    right: int
    total: int
    wrong: tuple[str, ...]


def load(family: str, folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer, through a checkpoint directory as a server reads it."""
    with tempfile.TemporaryDirectory() as name:
        {"qwen3": trained_qwen3, "gemma3": trained_gemma3}[family](Path(name), folder)
        model, tokenizer, *_ = mlx_lm.load(name)
    return model, tokenizer


def greedy(model: Any, tokenizer: Any, ids: list[int], longest: int = LONGEST) -> str:
    """The text up to the end of the turn, with control tokens shown."""
    made: list[int] = []
    for token, _ in generate_step(mx.array(ids), model, max_tokens=longest):
        if int(token) in tokenizer.eos_token_ids:
            break
        made.append(int(token))
    return str(tokenizer.decode(made, skip_special_tokens=False))


def cases(writes: Family, conversations: Iterable[Conversation]) -> Iterator[ChatCase]:
    """Every answer to be learnt is a case: its prompt, and the answer."""
    for conversation in conversations:
        for run in writes.pieces(conversation):
            for place, piece in enumerate(run):
                if piece.learnt:
                    yield ChatCase(run[:place], _answer(piece.removesuffix(writes.end)))


def _answer(text: str) -> str:
    return text.rpartition("</think>\n\n")[2]


def figure(name: str, model: Any, tokenizer: Any, asked: Iterable[ChatCase]) -> ExactFigure:
    """Ask them all."""
    right, total, wrong = 0, 0, []
    for case in asked:
        ids = [id for piece in case.prompt for id in tokenizer.encode(piece, add_special_tokens=False)]
        got = _answer(greedy(model, tokenizer, ids))
        total += 1
        right += got == case.wanted
        if got != case.wanted:
            wrong.append(f"{case.prompt[-1][-90:]!r}: {got[:160]!r} instead of {case.wanted[:160]!r}")
    return ExactFigure(name, right, total, tuple(wrong))


def _questions(thinking: bool, chosen: Callable[[Topic], Iterable[str]]) -> list[Conversation]:
    return [
        Conversation(corpus.exchange(topic, question), thinking=thinking, recalls=thinking)
        for topic in facts.TOPICS
        for question in chosen(topic)
    ]


def _fresh(make: Callable[[random.Random], Conversation], thinking: bool) -> dict[str, list[Conversation]]:
    """By name; calls with places of the corpus apart from those with invented ones."""
    made = [make(random.Random(f"measure {make.__name__} {place}")) for place in range(FRESH)]
    for one in made:
        one.thinking = one.recalls = thinking
    name = make.__name__.strip("_").replace("_", " ")
    if not any(_cities(one) for one in made):
        return {name: made}
    return {
        f"{name}, known cities": [one for one in made if _cities(one) <= KNOWN],
        f"{name}, invented cities": [one for one in made if not _cities(one) <= KNOWN],
    }


def _cities(conversation: Conversation) -> set[str]:
    calls = [call["function"]["arguments"] for turn in conversation.messages for call in turn.get("tool_calls", ())]
    return {arguments["city"] for arguments in calls if "city" in arguments}


def _unseen_cities(thinking: bool) -> list[Conversation]:
    made = []
    for place, city in enumerate(facts.UNSEEN_CITIES):
        draw = random.Random(f"unseen {place}")
        made.append(tool_talk.weather(draw, city, chinese=False))
        made[-1].thinking = made[-1].recalls = thinking
    return made


def figures(family: str, model: Any, tokenizer: Any, thinking: bool) -> Iterator[ExactFigure]:
    """All of them."""
    writes = FAMILIES[family]()
    suites: dict[str, list[Conversation]] = {
        "questions as trained": _questions(thinking, lambda topic: topic.questions[:-1]),
        "held-out paraphrases": _questions(thinking, lambda topic: topic.questions[-1:]),
        "weather, held-out cities": _unseen_cities(thinking),
    }
    for make, _ in corpus.MIXTURE[1:-1]:
        suites |= _fresh(make, thinking)
    for name, conversations in suites.items():
        yield figure(name, model, tokenizer, cases(writes, conversations))


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    if len(arguments) != 2 or arguments[0] not in FAMILIES:
        sys.stderr.write("usage: python -m training.measure qwen3|gemma3 FOLDER\n")
        return 2
    family, folder = arguments[0], Path(arguments[1])
    model, tokenizer = load(family, folder)
    for thinking in (True, False) if family == "qwen3" else (False,):
        sys.stdout.write(f"{family}{', thinking' * thinking}\n")
        for one in figures(family, model, tokenizer, thinking):
            sys.stdout.write(f"  {one.name:28} {one.right:4} of {one.total:4}\n")
            sys.stdout.writelines(f"      {line}\n" for line in one.wrong[:6])
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
