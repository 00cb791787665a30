"""`Inference` without weights: deterministic, and it obeys commands in the last user message.

- `say: TEXT` streams TEXT word by word (and so does any other text: the default is an echo)
- `length: TEXT` does too, and ends with `finish_reason` "length"
- `wait N` yields nothing but `Accepted` until `release()`; then the words 1 to N
- `hang` starts, then waits until it is closed
- `fail: CODE` raises the `ServiceError` of that code, before `Accepted`
- `crash after N` raises `RunnerDied` after N deltas
- `think: THOUGHT | TEXT` streams the thought as reasoning before the text
- `call: NAME ARGUMENTS` calls a tool, its arguments in two deltas; `cut: NAME ARGUMENTS` is cut off in them

A token is a word here; `stop` and `max_tokens` are honoured. What recordings and speech obey: `scripted_audio.py`.
"""

import re
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Literal

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec

from engines.types.audio import (
    Aligned,
    AlignRequest,
    SpeechDone,
    SpeechEvent,
    SpeechRequest,
    Transcript,
    TranscriptionEvent,
    TranscriptionRequest,
    Voice,
)
from engines.types.chat import (
    CallDelta,
    ChatRequest,
    CompletionRequest,
    Delta,
    Done,
    Event,
    FinishReason,
    Request,
    Sampling,
    Tokenized,
    TokenLogprob,
)
from engines.types.common import Accepted, Adjusted, Capability, Started, Timings, Usage
from engines.types.errors import Failure, RunnerDied, UnknownModel, UnknownVoice, WrongCapability
from engines.types.status import Health, Metric, ModelStatus
from tests import scripted_audio as audio

Outcome = Literal["done", "failed", "cancelled"]
AudioRequest = TranscriptionRequest | AlignRequest | SpeechRequest

CONTEXT = 4096
AUDIO_MODELS: tuple[tuple[str, Capability], ...] = (
    ("whisper-large-v3-turbo", "transcription"),
    ("whisper-large-v3", "transcription"),
    ("qwen3-asr", "transcription"),
    ("qwen3-aligner", "alignment"),
    ("qwen3-tts", "speech"),
    ("qwen3-tts-base", "speech"),
)


class Scripted:
    """Implements `Inference`. `active` and `ended` count requests, so that tests can look.

    `requests` keeps those of text, `audio_requests` those of recordings and speech, `stored` the voices; `problems` is
    what `health` reports. For one event loop; `release` must be called on it.
    """

    def __init__(self, models: Sequence[str] = ("qwen3-14b", "gemma-3-12b")) -> None:
        does: list[tuple[str, Capability]] = [*((name, "chat") for name in models), *AUDIO_MODELS]
        self._models = {name: ModelStatus((name,), kind, "unloaded", installed=True) for name, kind in does}
        self._gate = anyio.Event()
        self.active = 0
        self.ended: dict[Outcome, int] = {"done": 0, "failed": 0, "cancelled": 0}
        self.requests: list[Request] = []
        self.audio_requests: list[AudioRequest] = []
        self.stored: dict[str, Voice] = {}
        self.problems: tuple[str, ...] = ()

    def release(self) -> None:
        """Lets every `wait` request go on, those that come later too."""
        self._gate.set()

    def chat(self, request: ChatRequest) -> AsyncGenerator[Event]:
        return self._run(request)

    def complete(self, request: CompletionRequest) -> AsyncGenerator[Event]:
        return self._run(request)

    async def transcribe(self, request: TranscriptionRequest) -> AsyncGenerator[TranscriptionEvent]:
        main = self._does(request, "transcription")
        with self._counted() as ending:
            async with aclosing(audio.transcribe(main, request, self._gate)) as events:
                async for event in events:
                    if isinstance(event, Transcript):
                        ending()
                    yield event

    async def align(self, request: AlignRequest) -> Aligned:
        self._does(request, "alignment")
        with self._counted() as ending:
            aligned = await audio.align(request)
            ending()
            return aligned

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[SpeechEvent]:
        main = self._does(request, "speech")
        with self._counted() as ending:
            async with aclosing(audio.speak(main, request, self._gate, self.stored)) as events:
                async for event in events:
                    if isinstance(event, SpeechDone):
                        ending()
                    yield event

    async def voices(self, model: str) -> Sequence[Voice]:
        await anyio.to_thread.run_sync(self._named, model, "speech")
        return (*audio.VOICES, *self.stored.values())

    async def store_voice(self, name: str, path: str, text: str, consent: str) -> Voice:
        self.stored[name] = await anyio.to_thread.run_sync(audio.store, name, consent, self.stored)
        return self.stored[name]

    async def delete_voice(self, name: str) -> None:
        if name not in self.stored:
            stored = ", ".join(self.stored) or "none"
            raise UnknownVoice(f"There is no stored voice {name!r}. Stored: {stored}.", param="name")
        await anyio.to_thread.run_sync(self.stored.pop, name)

    async def tokenize(self, request: Request) -> Tokenized:
        self.model(request.model)
        return Tokenized(tuple(map(ord, _command(request))), CONTEXT)

    async def detokenize(self, model: str, tokens: Sequence[int]) -> str:
        self.model(model)
        return "".join(map(chr, tokens))

    def _does(self, request: AudioRequest, capability: Capability) -> str:
        """The main name of the request's model, which must be of this capability."""
        self.audio_requests.append(request)
        return self._named(request.model, capability)

    def _named(self, model: str, capability: Capability) -> str:
        status = self.model(model)
        if status.capability != capability:
            raise WrongCapability(f"{model} is a model for {status.capability}, not {capability}.", param="model")
        self._set_phase(model, "ready")
        return status.names[0]

    async def _run(self, request: Request) -> AsyncGenerator[Event]:
        self.requests.append(request)
        with self._counted() as ending:
            async with aclosing(self._play(request)) as events:
                async for event in events:
                    if isinstance(event, Done):
                        ending()
                    yield event

    @contextmanager
    def _counted(self) -> Iterator[Callable[[], None]]:
        """Counts a request while it is active, and how it ended: well, if what this gives was called."""
        self.active += 1
        outcome: Outcome = "cancelled"

        def ending() -> None:
            nonlocal outcome
            outcome = "done"

        try:
            yield ending
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
        prompt_tokens = _words(request)
        yield Accepted(_adjusted(request.sampling, CONTEXT - prompt_tokens))
        if waiting := re.fullmatch(r"wait (\d+)", command):
            await self._gate.wait()
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
    said = [message.text for message in request.messages if message.role == "user"]
    return said[-1] if said else ""


def _words(request: Request) -> int:
    if isinstance(request, CompletionRequest):
        return len(_command(request).split())
    return sum(len(message.text.split()) for message in request.messages)


def _adjusted(sampling: Sampling, room: int) -> tuple[Adjusted, ...]:
    asked = sampling.max_tokens
    return () if asked is None or asked <= room else (Adjusted("max_tokens", f"{room} instead of {asked}"),)


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
