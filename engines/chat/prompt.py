"""A conversation → the tokens that a model is to continue. Runs beside the step thread; nothing of MLX.

Users' text never becomes control tokens: every control token's string inside a message is broken by a sentinel before
the template sees it, and the rendered text is encoded apart at each sentinel. All other text is encoded in one piece
with what surrounds it, as in training.
"""

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import jinja2
import msgspec
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from engines.errors import CheckpointUnusable, ContextLengthExceeded, InvalidRequest
from engines.types import ChatRequest, Message, Sampling

ASSISTANT_MARKS = frozenset({"<think>", "</think>"})


class Prompt(msgspec.Struct, frozen=True):
    """What a model is to continue, and for how many tokens at most."""

    ids: tuple[int, ...]
    max_tokens: int
    sampling: Sampling


class PromptWriter:
    """One checkpoint's template and tokenizer."""

    def __init__(self, tokenizer: Tokenizer, template: jinja2.Template, context_length: int) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._context_length = context_length
        added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        # Added tokens of white space alone (Gemma has some) control nothing: they are how such text is written.
        tokens = [token for token in added if len(token.strip(" \t\r\n▁")) > 1]
        self._control = _any_of(tokens)
        self._control_but_marks = _any_of([token for token in tokens if token not in ASSISTANT_MARKS])

    @classmethod
    def read(cls, folder: Path, context_limit: int) -> "PromptWriter":
        """From a checkpoint's folder. Raises `CheckpointUnusable` when there is no template."""
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        known = config.get("max_position_embeddings") or config.get("text_config", {}).get("max_position_embeddings")
        environment = _environment()
        tokens = {name: _content(settings.get(name)) for name in ("bos_token", "eos_token")}
        template = environment.from_string(_template_text(folder, settings), globals=tokens)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(tokenizer, template, min(known or context_limit, context_limit))

    @property
    def context_length(self) -> int:
        """Tokens of prompt and answer together, at most."""
        return self._context_length

    def write(self, request: ChatRequest) -> Prompt:
        """Raises `InvalidRequest` for what the template refuses, `ContextLengthExceeded` for what is too long."""
        ids = self._encode(_normalised(request.messages))
        room = self._context_length - len(ids)
        asked = request.sampling.max_tokens
        if room < 1 or (asked or 1) > room:
            raise ContextLengthExceeded(
                f"This model's context is {self._context_length} tokens; the messages take {len(ids)}"
                + (f" and {asked} more are asked for" if asked else "")
                + ". Shorten the messages or lower max_tokens.",
                param="messages",
            )
        return Prompt(ids, asked or room, request.sampling)

    def _encode(self, messages: Sequence[Message]) -> tuple[int, ...]:
        sentinel = _unused_character(messages)
        turns = [{"role": message.role, "content": self._broken(message, sentinel)} for message in messages]
        try:
            text = self._template.render(messages=turns, add_generation_prompt=True)
        except (
            jinja2.TemplateError,
            TypeError,
            ValueError,
        ) as error:  # a template is a program, and raises what it likes
            message = f"The model's chat template refuses this conversation: {error}"
            raise InvalidRequest(message, param="messages") from error
        parts = text.split(sentinel)
        return tuple(id for part in parts for id in self._tokenizer.encode(part, add_special_tokens=False).ids)

    def _broken(self, message: Message, sentinel: str) -> str:
        control = self._control_but_marks if message.role == "assistant" else self._control
        return control.sub(lambda match: match[0][0] + sentinel + match[0][1:], message.content)


def _any_of(tokens: Sequence[str]) -> re.Pattern[str]:
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) if tokens else r"(?!)")


def _unused_character(messages: Sequence[Message]) -> str:
    used = set().union(*(message.content for message in messages))
    return next(chr(code) for code in range(0xE000, 0xF900) if chr(code) not in used)


def _normalised(messages: Sequence[Message]) -> list[Message]:
    """System messages as one at the top, and turns that alternate: neighbours of one role are one message."""
    system = [message.content for message in messages if message.role == "system"]
    turns = [Message("system", "\n\n".join(system))] if system else []
    for message in messages:
        if message.role == "system":
            continue
        if turns and turns[-1].role == message.role:
            turns[-1] = Message(message.role, f"{turns[-1].content}\n\n{message.content}")
        else:
            turns.append(message)
    return turns


def _environment() -> ImmutableSandboxedEnvironment:
    """As checkpoints' templates expect it; sandboxed, for a template is somebody's program."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(layout: str) -> str:
    return datetime.datetime.now().strftime(layout)


def _content(token: object) -> str:
    if isinstance(token, Mapping):
        return str(token.get("content", ""))
    return token if isinstance(token, str) else ""


def _template_text(folder: Path, settings: Mapping[str, object]) -> str:
    file = folder / "chat_template.jinja"
    if file.exists():
        return file.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):
        template = next((one["template"] for one in template if one["name"] == "default"), None)
    if not isinstance(template, str):
        raise CheckpointUnusable("This checkpoint has no chat template, so it can't chat.")
    return template
