"""Conversations → tokens, exactly as a server meets them: the same templates, the same text around tools."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from engines.runner.chat.tool_text import call_text, response_text, tools_block
from training.talk import Conversation, Turn

TEMPLATES = Path(__file__).parents[1] / "demo" / "templates"


class TrainingText(str):
    """Text that a model reads; `learnt` when it is to write it itself."""

    learnt: bool

    def __new__(cls, text: str, learnt: bool = False) -> "TrainingText":
        made = super().__new__(cls, text)
        made.learnt = learnt
        return made


@dataclass(frozen=True)
class Sample:
    """`learnt[i]`: whether token i is one that the model is to write."""

    ids: list[int]
    learnt: list[bool]


class Family(Protocol):
    """How one family of models writes a conversation; `end` ends an answer."""

    end: str

    def pieces(self, conversation: Conversation) -> Iterator[list[TrainingText]]:
        """What there is to learn from it, as runs of text to be encoded apart."""

    def prompt(self, conversation: Conversation) -> str:
        """All turns, and the beginning of the next answer."""


def sample(tokenizer: Tokenizer, pieces: Sequence[TrainingText]) -> Sample:
    """A prompt is encoded apart from its answer, as in serving."""
    ids: list[int] = []
    learnt: list[bool] = []
    for piece in pieces:
        more = tokenizer.encode(piece, add_special_tokens=False).ids
        ids += more
        learnt += [piece.learnt] * len(more)
    return Sample(ids, learnt)


def _template(name: str, **tokens: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.globals["raise_exception"] = _raise
    return environment.from_string((TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8"), globals=tokens)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _calls_text(turn: Turn) -> str:
    functions = [call["function"] for call in turn.get("tool_calls", ())]
    calls = [call_text(function["name"], function["arguments"]) for function in functions]
    return "\n".join([turn["content"], *calls] if turn["content"] else calls)


class Qwen3:
    """Thinks before it answers, unless the prompt ends with an empty thought."""

    end = "<|im_end|>"

    def __init__(self) -> None:
        self._template = _template("qwen3")

    def prompt(self, conversation: Conversation) -> str:
        """All turns, and the beginning of the next answer."""
        return self._before(conversation, len(conversation.messages))

    def pieces(self, conversation: Conversation) -> Iterator[list[TrainingText]]:
        """The answers after the last question: earlier thoughts are not in the prompt."""
        written: list[TrainingText] = []
        for place in range(conversation.question + 1, len(conversation.messages)):
            turn = conversation.messages[place]
            if turn["role"] != "assistant":
                continue
            prompt, known = self._before(conversation, place), "".join(written)
            if written and not prompt.startswith(known):
                yield written
                written, known = [], ""
            written += [TrainingText(prompt.removeprefix(known)), *self._answer(conversation, turn)]
        yield written

    def _before(self, conversation: Conversation, place: int) -> str:
        messages = conversation.messages[:place]
        if not conversation.recalls:
            messages = [{key: turn[key] for key in turn if key != "reasoning_content"} for turn in messages]
        return self._template.render(
            messages=messages,
            tools=conversation.tools or None,
            add_generation_prompt=True,
            enable_thinking=conversation.thinking,
        )

    def _answer(self, conversation: Conversation, turn: Turn) -> Iterator[TrainingText]:
        text = _calls_text(turn) + self.end * (not conversation.endless)
        if not conversation.thinking:
            yield TrainingText(text, learnt=True)
            return
        yield TrainingText(f"<think>\n{turn['reasoning_content']}\n</think>\n\n{text}", learnt=True)


def cut_thought(pieces: Sequence[TrainingText], random: random.Random) -> list[TrainingText]:
    """The thought of the last answer is ended early, as a thinking budget does; only the answer is to be learnt."""
    *before, last = pieces
    opening, closing = "<think>\n", "\n</think>\n\n"
    if not last.startswith(opening):
        return list(pieces)
    thought, _, text = last.removeprefix(opening).partition(closing)
    shorter = thought[: random.randrange(len(thought))].rstrip()
    unlearnt = [TrainingText(piece) for piece in before]
    return [*unlearnt, TrainingText(f"{opening}{shorter}{closing}"), TrainingText(text, learnt=True)]


class Gemma3:
    """Never thinks; what it knows of tools stands in the first user turn."""

    end = "<end_of_turn>"

    def __init__(self) -> None:
        self._template = _template("gemma3", bos_token="<bos>")

    def prompt(self, conversation: Conversation) -> str:
        """All turns, and the beginning of the next answer."""
        return self._before(conversation, len(conversation.messages))

    def pieces(self, conversation: Conversation) -> Iterator[list[TrainingText]]:
        """Every answer."""
        written: list[TrainingText] = []
        for place, turn in enumerate(conversation.messages):
            if turn["role"] == "assistant":
                prompt = self._before(conversation, place).removeprefix("".join(written))
                last = conversation.endless and place == len(conversation.messages) - 1
                written += [TrainingText(prompt), TrainingText(_calls_text(turn) + self.end * (not last), learnt=True)]
        yield written

    def _before(self, conversation: Conversation, place: int) -> str:
        messages = _with_tools_as_text(conversation.messages[:place], conversation.tools)
        return self._template.render(messages=messages, add_generation_prompt=True)


def _with_tools_as_text(messages: Sequence[Turn], tools: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Roles that Gemma's template knows, in turns that alternate."""
    system = [turn["content"] for turn in messages if turn["role"] == "system"]
    system += [tools_block(tools)] if tools else []
    turns = [{"role": "system", "content": "\n\n".join(system)}] if system else []
    for turn in messages:
        if turn["role"] == "assistant":
            turns.append({"role": "assistant", "content": _calls_text(turn)})
        elif turn["role"] == "tool" and turns[-1]["role"] == "user":
            turns[-1]["content"] += "\n" + response_text(turn["content"])
        elif turn["role"] == "tool":
            turns.append({"role": "user", "content": response_text(turn["content"])})
        elif turn["role"] == "user":
            turns.append({"role": "user", "content": turn["content"]})
    return turns


FAMILIES: Mapping[str, type[Qwen3] | type[Gemma3]] = {"qwen3": Qwen3, "gemma3": Gemma3}
