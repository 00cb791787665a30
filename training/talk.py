"""What conversations are made of: turns, calls, names of places."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from training import facts

Turn = dict[str, Any]
Random = random.Random


@dataclass
class Conversation:
    """`recalls`: the client sends earlier thoughts back. `endless`: the last answer's end is not to be learnt."""

    messages: list[Turn]
    tools: list[dict[str, object]] = field(default_factory=list)
    thinking: bool = True
    recalls: bool = True
    endless: bool = False

    @property
    def question(self) -> int:
        """Where the last user turn stands."""
        return max(place for place, turn in enumerate(self.messages) if turn["role"] == "user")


def user(text: str) -> Turn:
    """A question."""
    return {"role": "user", "content": text}


def answer(text: str, thought: str) -> Turn:
    """An answer, and what was thought before it."""
    return {"role": "assistant", "content": text, "reasoning_content": thought}


def calls(made: Sequence[tuple[str, Mapping[str, object]]], thought: str) -> Turn:
    """An answer that calls tools."""
    functions = [{"name": name, "arguments": dict(arguments)} for name, arguments in made]
    written = [
        {"id": f"call_{place}", "type": "function", "function": function} for place, function in enumerate(functions)
    ]
    return {**answer("", thought), "tool_calls": written}


def city(random: Random, chinese: bool) -> str:
    """A known place, or as often an invented one, so that copying is learnt and not a list."""
    if random.random() > 0.5:
        place = random.choice(facts.PLACES)
        return place.chinese_city if chinese else place.city
    if chinese:
        return "".join(random.sample(sorted(set("".join(place.chinese_city for place in facts.PLACES))), 2))
    words = ["".join(random.choices(facts.SYLLABLES, k=random.randint(2, 3))).capitalize() for _ in range(2)]
    return " ".join(words[: random.choices((1, 2), (6, 1))[0]])


def number(random: Random) -> int:
    """Of one to three digits."""
    return random.randint(0, 10 ** random.randint(1, 3) - 1)
