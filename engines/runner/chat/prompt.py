"""A request → the tokens that a model is to continue, and how. Runs beside the step thread; nothing of MLX.

Users' text never becomes control tokens: every control token's string inside a message, and every other word that the
template looks for in it, is broken by a sentinel before the template sees it, and the rendered text is encoded apart at
each sentinel. All other text is encoded in one piece with what surrounds it, as in training.
"""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec.structs import replace
from tokenizers import Tokenizer

from engines.models import tokenizer as tokenizers
from engines.models.config import eos_ids, positions
from engines.models.model_files import read_json
from engines.runner.chat import template_files
from engines.runner.chat.call_formats import by_markup
from engines.runner.chat.conversation import arranged, check_text_alone, definition, mapped, strings, turn
from engines.runner.chat.reply import ReplyParser
from engines.runner.chat.stop_tokens import found
from engines.runner.chat.template import Template, Templates
from engines.runner.chat.turn_order import PLAINEST, Manners, stands
from engines.runner.generation.grammar.compiler import GrammarCompiler
from engines.runner.generation.grammar.markups import Markup
from engines.runner.generation.prompt import Prompt, Thought
from engines.runner.patience import Patience
from engines.runner.tokenization.encoding import TextEncoder, TooManyTokens, too_long
from engines.runner.tokenization.prompt_escaping import any_of, breaker, unused_characters
from engines.types.chat import ChatRequest, CompletionRequest, Request, Sampling, Tool
from engines.types.common import Adjusted, Json
from engines.types.errors import ContextLengthExceeded, InvalidRequest

OPEN, CLOSE = "<think>", "</think>"
TOLD_CONTEXTS = 16  # a prompt of so many contexts is still told its tokens, where that alone is asked for
CLOSING = f"\n{CLOSE}\n\n"
ASSISTANT_MARKS = frozenset({OPEN, CLOSE})

ThinkingState = Literal["absent", "possible", "open"]


class ReplyPlan(msgspec.Struct, frozen=True):
    """How a reply is to be read: which tools it may call, and what becomes of its thought (see `ReplyParser`)."""

    tools: frozenset[str] = frozenset()
    schemas: dict[str, Json] = {}
    markup: Markup = "hermes"
    strict: bool = False
    parallel: bool = True
    thinking: ThinkingState = "absent"
    separate: bool = True

    def reader(self) -> ReplyParser:
        return ReplyParser(
            {name: self.schemas.get(name, {}) for name in self.tools},
            format=by_markup(self.markup, strict=self.strict),
            thinking=self.thinking,
            separate=self.separate,
            parallel=self.parallel,
        )


class PromptWriter:
    """One checkpoint's template and tokenizer."""

    def __init__(
        self, tokenizer: Tokenizer, templates: Templates, context_length: int, grammars: GrammarCompiler
    ) -> None:
        self._tokenizer = tokenizer
        self._encoder = TextEncoder(tokenizer)
        self._templates = templates
        self._context_length = context_length
        self._grammars = grammars
        self._compiling = threading.Lock()  # long and short requests are made ready by two threads
        added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        # Added tokens of white space alone (Gemma has some) control nothing: they are how such text is written.
        tokens = [token for token in added if len(token.strip(" \t\r\n▁")) > 1]
        # What a template looks for in messages would change what it does with them, whether that is a token or not.
        control = {*tokens, *templates.searched}
        self._control = any_of(sorted(control))
        self._control_but_marks = any_of(sorted(control - ASSISTANT_MARKS))
        self._thinks = CLOSE in tokens
        self._closing = self._plain(CLOSING)
        self._behind = self._plain("\n\n")

    @classmethod
    def read(cls, folder: Path, context_limit: int) -> "PromptWriter":
        """From a checkpoint's folder. Raises `CheckpointUnusable` when there is no template."""
        config = read_json(folder / "config.json")
        text = {**config, **(config.get("text_config") or {})}
        known = positions(folder, config)
        templates = template_files.read(folder)
        tokenizer = tokenizers.read(folder)
        marks = {token.content: id for id, token in tokenizer.get_added_tokens_decoder().items()}
        markup = templates.chosen(with_tools=True).format.markup
        ends = eos_ids(folder) or found(tokenizer, templates, template_files.eos(folder))
        width = max(text.get("vocab_size") or 0, tokenizer.get_vocab_size())
        grammars = GrammarCompiler(tokenizers.source(folder), width, sorted(ends), marks, markup)
        return cls(tokenizer, templates, min(known or context_limit, context_limit), grammars)

    @property
    def context_length(self) -> int:
        """Tokens of prompt and answer together, at most."""
        return self._context_length

    def write(self, request: Request, patience: Patience | None = None) -> Prompt:
        """Raises `InvalidRequest` for what can't be done, `ContextLengthExceeded` for what is too long; `Abandoned`."""
        self._check_bias(request.sampling)
        ids, text = self._read(request, self._context_length, patience or Patience())
        if isinstance(request, CompletionRequest):
            return self._completion(request, ids)
        return self._chat(request, ids, text)

    def ids_of(self, request: Request, patience: Patience | None = None) -> tuple[int, ...]:
        """The tokens of the prompt alone, also of one that is several times too long."""
        return self._read(request, self._context_length * TOLD_CONTEXTS, patience or Patience())[0]

    def text_of(self, ids: Sequence[int]) -> str:
        """The text of tokens, control tokens included. Raises `InvalidRequest` for ids that no token has."""
        self._check_ids(ids, "tokens")
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def _read(self, request: Request, most: int, patience: Patience) -> tuple[tuple[int, ...], str]:
        """The prompt's tokens, at most so many, and the text that they are of a chat."""
        param = "prompt" if isinstance(request, CompletionRequest) else "messages"
        if isinstance(request, ChatRequest):
            check_text_alone(request.messages)
        try:
            for texts in _texts(request):
                self._encoder.check(texts, most)
            if isinstance(request, CompletionRequest):
                return self._given(request.prompt, most, patience), ""
            text, sentinel = self._rendered(request, patience)
            return self._encoded(text, sentinel, most, patience), text
        except TooManyTokens as error:
            if most > self._context_length:
                told = f"Tokens are told of prompts of up to {most}"
                message = f"{told}; the {param} alone need at least {error.at_least}. Shorten the {param}."
                raise ContextLengthExceeded(message, param=param) from error
            raise too_long(most, error, param) from error

    # -- chat ---------------------------------------------------------------------------------------------------

    def _chat(self, request: ChatRequest, ids: tuple[int, ...], text: str) -> Prompt:
        plan = self._plan(request, text)
        with self._compiling:
            grammar = self._grammars.answer(request.constraint, request.tools, request.tool_choice)
            calls = self._grammars.call_body(request.tools, request.tool_choice) if grammar is None else None
        max_tokens, adjusted = self._room(ids, request.sampling.max_tokens, "messages")
        adjusted += self._budget_adjusted(request.thinking.budget, len(ids))
        adjusted += tuple(one for found in (grammar, calls) if found is not None for one in found.adjusted)
        return Prompt(
            ids,
            max_tokens,
            request.sampling,
            request.trace,
            plan,
            self._thought(request),
            grammar,
            calls,
            continues=request.continue_final,
            background=request.priority == "background",
            adjusted=adjusted,
        )

    def _rendered(self, request: ChatRequest, patience: Patience) -> tuple[str, str]:
        """The text, and the character in it at which it is to be encoded apart.

        What a template renders is checked: where a turn's text is missing, and where it refuses the conversation, it
        is asked once more with the plainest order of turns that there is.
        """
        self._check_thinking(request)
        named = request.tools if request.tool_choice.mode != "none" else ()
        template = self._templates.chosen(with_tools=bool(named))
        template.check_variables(request.template)
        sentinel, end = _unused_characters(request)
        whole = ""
        refused: InvalidRequest | None = None
        for manners in dict.fromkeys((template.manners(with_tools=bool(named)), PLAINEST)):
            try:
                text, complete = self._rendered_by(template, manners, request, named, (sentinel, end), patience)
            except InvalidRequest as error:
                refused = refused or error
                continue
            if complete:
                return text, sentinel
            whole = whole or text
        if refused is not None and not whole:
            raise refused
        return whole, sentinel

    def _rendered_by(
        self,
        template: Template,
        manners: Manners,
        request: ChatRequest,
        named: Sequence[Tool],
        marks: tuple[str, str],
        patience: Patience,
    ) -> tuple[str, bool]:
        """The text, and whether every turn's own text stands in it."""
        sentinel, end = marks
        messages, tools = arranged(request.messages, named, knows_tools=template.knows_tools, manners=manners)
        broken = breaker(self._control, sentinel)
        turns = [{**mapped(turn(message, manners), broken), "role": message.role} for message in messages]
        if request.continue_final:
            turns[-1]["content"] = breaker(self._control_but_marks, sentinel)(messages[-1].text) + end
        variables: dict[str, Any] = {
            **{name: mapped(value, broken) for name, value in request.template.items()},
            "add_generation_prompt": not request.continue_final,
        }
        if tools:
            variables["tools"] = [mapped(definition(tool), broken) for tool in tools]
        if request.thinking.enabled is not None:
            variables["enable_thinking"] = request.thinking.enabled
        text = template.render(turns, variables, patience)
        shown = [replace(message, content=made["content"]) for message, made in zip(messages, turns, strict=True)]
        complete = stands(shown, text)
        return (text.split(end)[0] if request.continue_final else text), complete

    def _encoded(self, text: str, sentinel: str, most: int, patience: Patience) -> tuple[int, ...]:
        ids: list[int] = []
        for place, part in enumerate(text.split(sentinel)):
            ids += self._encoder.ids(part, most=most - len(ids), patience=patience, behind=place > 0)
        return tuple(ids)

    def _plan(self, request: ChatRequest, text: str) -> ReplyPlan:
        named = request.tools if request.tool_choice.mode != "none" else ()
        return ReplyPlan(
            tools=frozenset(tool.name for tool in named),
            schemas={tool.name: tool.parameters for tool in named},
            markup=self._templates.chosen(with_tools=bool(named)).format.markup,
            parallel=request.tool_choice.parallel and request.tool_choice.mode != "named",
            strict=any(tool.strict for tool in named),
            thinking=self._thinking_state(request, text),
            separate=request.thinking.separate,
        )

    def _thought(self, request: ChatRequest) -> Thought:
        if not self._thinks:
            return Thought()
        opening = self._tokenizer.token_to_id(OPEN)
        return Thought(request.thinking.budget, opening, self._closing, self._behind)

    def _thinking_state(self, request: ChatRequest, text: str) -> ThinkingState:
        """From what stands after the last message's own text: the template may have opened or closed a thought."""
        if not self._thinks:
            return "absent"
        opened, closed = text.rfind(OPEN), text.rfind(CLOSE)
        if opened > closed and not text[opened + len(OPEN) :].strip():
            return "open"
        if request.continue_final or (closed >= 0 and not text[closed + len(CLOSE) :].strip()):
            return "absent"
        return "possible"

    def _check_thinking(self, request: ChatRequest) -> None:
        wanted = request.thinking
        if not self._thinks and (wanted.enabled or wanted.budget):
            message = "This model doesn't think before it answers: leave enable_thinking, reasoning_effort and "
            raise InvalidRequest(f"{message}thinking_budget out.", param="enable_thinking")

    # -- completions --------------------------------------------------------------------------------------------

    def _completion(self, request: CompletionRequest, ids: tuple[int, ...]) -> Prompt:
        if not ids:
            raise InvalidRequest("prompt is empty: give some text to continue.", param="prompt")
        echo = None
        if request.echo:
            echo = request.prompt if isinstance(request.prompt, str) else self.text_of(ids)
        with self._compiling:
            grammar = self._grammars.answer(request.constraint, (), ChatRequest("", ()).tool_choice)
        max_tokens, adjusted = self._room(ids, request.sampling.max_tokens, "prompt")
        return Prompt(
            ids,
            max_tokens,
            request.sampling,
            request.trace,
            grammar=grammar,
            echo=echo,
            continues=True,
            background=request.priority == "background",
            adjusted=adjusted,
        )

    def _given(self, prompt: str | tuple[int, ...], most: int, patience: Patience) -> tuple[int, ...]:
        """As the model's makers encode text: with what the tokenizer puts before it, control tokens as such."""
        if isinstance(prompt, str):
            return tuple(self._encoder.ids(prompt, most=most, patience=patience, special=True))
        self._check_ids(prompt, "prompt")
        return prompt

    # -- both ---------------------------------------------------------------------------------------------------

    def _plain(self, text: str) -> tuple[int, ...]:
        return tuple(self._encoder.ids(text))

    def _room(self, ids: Sequence[int], asked: int | None, param: str) -> tuple[int, tuple[Adjusted, ...]]:
        """Tokens that the answer may have. What is asked for beyond them is a wish: agents always send 32,000."""
        room = self._context_length - len(ids)
        if room < 1:
            message = f"This model's context is {self._context_length} tokens, and the {param} alone are {len(ids)}."
            raise ContextLengthExceeded(f"{message} Shorten the {param}.", param=param)
        if asked is None or asked <= room:
            return room if asked is None else asked, ()
        return room, (Adjusted("max_tokens", f"{room} instead of {asked}"),)

    def _budget_adjusted(self, budget: int | None, prompt_tokens: int) -> tuple[Adjusted, ...]:
        room = self._context_length - prompt_tokens
        if budget is None or budget <= room:
            return ()
        return (Adjusted("thinking_budget", f"{room} instead of {budget}"),)

    def _check_ids(self, ids: Sequence[int], param: str) -> None:
        for place, id in enumerate(ids):
            if self._tokenizer.id_to_token(id) is None:
                raise InvalidRequest(f"{param}[{place}] is {id}, which no token of this model has.", param=param)

    def _check_bias(self, sampling: Sampling) -> None:
        for id, _ in sampling.logit_bias:
            if self._tokenizer.id_to_token(id) is None:
                raise InvalidRequest(f"logit_bias names {id}, which no token of this model has.", param="logit_bias")


def _texts(request: Request) -> Iterator[list[str]]:
    """The texts that must fit together: those of a prompt; of tools; each thought and call, which may look shorter."""
    if isinstance(request, CompletionRequest):
        yield [request.prompt] if isinstance(request.prompt, str) else []
        return
    messages = request.messages
    yield [message.text for message in messages]
    yield list(strings([definition(tool) for tool in request.tools]))
    yield list(strings(request.template))
    for message in messages:
        yield from ([text] for text in (message.reasoning, *(call.arguments for call in message.tool_calls)))


def _unused_characters(request: ChatRequest) -> tuple[str, str]:
    given = [*(turn(message, PLAINEST) for message in request.messages), *map(definition, request.tools)]
    unused = unused_characters(strings([*given, request.template]))
    return next(unused), next(unused)
