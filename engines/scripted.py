"""`Inference` without weights: deterministic, and it obeys commands in the last user message.

- `say: TEXT` streams TEXT word by word (and so does any other text: the default is an echo)
- `length: TEXT` does too, and ends with `finish_reason` "length"
- `wait N` yields nothing, not even `Started`, until `release()`; then the words 1 to N
- `hang` starts, then waits until it is closed
- `fail: CODE` raises the `ServiceError` of that code, before `Started`
- `crash after N` raises `RunnerDied` after N deltas
- `think: THOUGHT | TEXT` streams the thought as reasoning before the text
- `call: NAME ARGUMENTS` calls a tool, its arguments in two deltas; `cut: NAME ARGUMENTS` is cut off in them

A token is a word here; `stop` and `max_tokens` are honoured.
"""

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Literal

import anyio
import anyio.lowlevel
import msgspec

from engines.errors import Failure, RunnerDied, UnknownModel
from engines.types import (
    CallDelta,
    ChatRequest,
    CompletionRequest,
    Delta,
    Done,
    Event,
    FinishReason,
    Health,
    Metric,
    ModelStatus,
    Request,
    Sampling,
    Started,
    Timings,
    Tokenized,
    TokenLogprob,
    Usage,
)

Outcome = Literal["done", "failed", "cancelled"]


class Scripted:
    """Implements `Inference`. `active` and `ended` count requests, `requests` keeps them, so that tests can look.

    `problems` is what `health` reports. For one event loop; `release` must be called on it.
    """

    def __init__(self, models: Sequence[str] = ("qwen3-14b", "gemma-3-12b")) -> None:
        self._models = {name: ModelStatus((name,), "chat", "unloaded", installed=True) for name in models}
        self._gate = anyio.Event()
        self.active = 0
        self.ended: dict[Outcome, int] = {"done": 0, "failed": 0, "cancelled": 0}
        self.requests: list[Request] = []
        self.problems: tuple[str, ...] = ()

    def release(self) -> None:
        """Lets every `wait` request go on, those that come later too."""
        self._gate.set()

    def chat(self, request: ChatRequest) -> AsyncGenerator[Event]:
        return self._run(request)

    def complete(self, request: CompletionRequest) -> AsyncGenerator[Event]:
        return self._run(request)

    async def tokenize(self, request: Request) -> Tokenized:
        self.model(request.model)
        return Tokenized(tuple(map(ord, _command(request))), 4096)

    async def detokenize(self, model: str, tokens: Sequence[int]) -> str:
        self.model(model)
        return "".join(map(chr, tokens))

    async def _run(self, request: Request) -> AsyncGenerator[Event]:
        self.active += 1
        self.requests.append(request)
        outcome: Outcome = "cancelled"
        try:
            async with aclosing(self._play(request)) as events:
                async for event in events:
                    if isinstance(event, Done):
                        outcome = "done"
                    yield event
        except Exception:
            outcome = "failed"
            raise
        finally:
            self.active -= 1
            self.ended[outcome] += 1

    async def _play(self, request: Request) -> AsyncGenerator[Event]:
        main = self.model(request.model).names[0]
        command = _command(request)
        if failing := re.fullmatch(r"fail: (\w+)", command):
            raise Failure(failing[1], f"The script asked for {failing[1]}; ask for something else.").error()
        if waiting := re.fullmatch(r"wait (\d+)", command):
            await self._gate.wait()
        prompt_tokens = _words(request)
        self._set_phase(main, "ready")
        yield Started(main, prompt_tokens)
        if command == "hang":
            await anyio.sleep_forever()
        if crash := re.fullmatch(r"crash after (\d+)", command):
            for number in range(int(crash[1])):
                yield Delta(f"{number + 1} ")
            raise RunnerDied(f"The runner of {main} died. Try again: it is being started anew.", retry_after=1.0)
        if calling := re.fullmatch(r"(call|cut): (\w+) (.*)", command, re.DOTALL):
            for event in _calling(calling[1], calling[2], calling[3], prompt_tokens):
                yield event
            return
        text = " ".join(str(number + 1) for number in range(int(waiting[1]))) if waiting else _spoken(command)
        thought = ""
        if thinking := re.fullmatch(r"think: (.*) \| (.*)", text):
            thought, text = thinking.groups()
            yield Delta(reasoning=thought)
        pieces, finish_reason = _cut(text, request.sampling, "length" if command.startswith("length: ") else "stop")
        for piece in pieces:
            await anyio.lowlevel.checkpoint()
            yield Delta(piece, logprobs=_logprobs(piece, request.sampling))
        usage = Usage(prompt_tokens, len(pieces), reasoning_tokens=len(thought.split()))
        yield Done(finish_reason, usage, Timings(0.0, 0.0, 0.0))

    def models(self) -> Sequence[ModelStatus]:
        return tuple(self._models.values())

    def model(self, name: str) -> ModelStatus:
        if name not in self._models:
            known = ", ".join(self._models)
            raise UnknownModel(f"There is no model {name!r}. Known models: {known}.", param="model")
        return self._models[name]

    async def load(self, model: str) -> None:
        self._set_phase(model, "ready")

    async def unload(self, model: str) -> None:
        self._set_phase(model, "unloaded")

    def health(self) -> Health:
        return Health(not self.problems, self.problems)

    def metrics(self) -> Sequence[Metric]:
        ended = [
            Metric("mlx_local_requests_total", "counter", "Requests that ended.", count, (("outcome", outcome),))
            for outcome, count in self.ended.items()
        ]
        return (*ended, Metric("mlx_local_requests_running", "gauge", "Requests in work.", self.active))

    def _set_phase(self, model: str, phase: Literal["ready", "unloaded"]) -> None:
        self._models[model] = msgspec.structs.replace(self.model(model), phase=phase)


def _command(request: Request) -> str:
    """A completion's prompt, or a chat's last user message."""
    if isinstance(request, CompletionRequest):
        return request.prompt if isinstance(request.prompt, str) else "".join(map(chr, request.prompt))
    said = [message.content for message in request.messages if message.role == "user"]
    return said[-1] if said else ""


def _words(request: Request) -> int:
    if isinstance(request, CompletionRequest):
        return len(_command(request).split())
    return sum(len(message.content.split()) for message in request.messages)


def _calling(how: str, name: str, arguments: str, prompt_tokens: int) -> list[Event]:
    half = len(arguments) // 2
    first = Delta(calls=(CallDelta(0, "call_1", name, arguments[:half]),))
    second = Delta(calls=(CallDelta(0, arguments=arguments[half:]),))
    usage, timings = Usage(prompt_tokens, 2), Timings(0.0, 0.0, 0.0)
    if how == "call":
        return [first, second, Done("tool_calls", usage, timings)]
    return [first, Done("length", usage, timings, (0,), f"<tool_call>{name} {arguments[:half]}")]


def _logprobs(piece: str, sampling: Sampling) -> tuple[TokenLogprob, ...]:
    if sampling.logprobs is None:
        return ()
    top = tuple((place, piece.encode(), -0.5) for place in range(sampling.logprobs))
    return (TokenLogprob(0, piece.encode(), -0.5, top),)


def _spoken(command: str) -> str:
    return command.removeprefix("say: ").removeprefix("length: ")


def _cut(text: str, sampling: Sampling, otherwise: FinishReason) -> tuple[list[str], FinishReason]:
    """The words to stream, each with the space after it, and why they end."""
    stops = [at for stop in sampling.stop if (at := text.find(stop)) >= 0]
    if stops:
        text, otherwise = text[: min(stops)], "stop"
    pieces = re.findall(r"\s*\S+\s?|\s+", text)
    if sampling.max_tokens is not None and len(pieces) > sampling.max_tokens:
        return pieces[: sampling.max_tokens], "length"
    return pieces, otherwise
