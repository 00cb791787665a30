"""A streamed text: the chunks of all its choices, as they are made."""

from collections.abc import AsyncGenerator, Iterable

import msgspec

from engines.types.chat import Delta, Done
from engines.types.common import Accepted, Json
from engines.types.inference import Inference
from http_server.response_headers import adjusted
from http_server.streaming import EventStream, StreamOptions
from openai_compat.chat.answers import answer
from openai_compat.chat.choices import Numbered, events
from openai_compat.chat.fields import Parsed


class AnswerStream(EventStream[Numbered]):
    """OpenAI's chunks, and the usage behind the last choice's end, where it is asked for."""

    def __init__(self, inference: Inference, parsed: Parsed, headers: dict[str, str], options: StreamOptions) -> None:
        super().__init__(parsed.first.trace, headers, options)
        self._inference = inference
        self._parsed = parsed
        self._answer = answer(parsed)
        self._done: dict[int, Done] = {}
        self._is_told = False  # what was adjusted, in the headers

    @property
    def knows_headers(self) -> bool:
        return self._answer.accepted

    def admits(self, item: Numbered) -> bool:
        number, event = item
        if isinstance(event, Accepted):
            self._answer.take(number, event)
            self.headers.update(adjusted(self._answer.adjusted))
            self._is_told = self._answer.accepted
        return not isinstance(event, Accepted)

    def events(self) -> AsyncGenerator[Numbered]:
        return events(self._inference, self._parsed)

    def opening(self) -> Iterable[Json]:
        return self._answer.opening()

    def ending(self) -> bytes:
        return b"data: [DONE]\n\n"

    def said(self, item: Numbered) -> Iterable[Json]:
        number, event = item
        match event:
            case Accepted():
                self._answer.take(number, event)
            case Delta():
                yield from self._answer.said(number, event)
            case Done():
                self._done[number] = event
                told = msgspec.to_builtins(self._answer.adjusted) if not self._is_told else []
                yield {**self._answer.ended(number, event), **({"adjusted_fields": told} if told else {})}
                if self._parsed.include_usage and len(self._done) == len(self._parsed.requests):
                    yield self._answer.usage_chunk(self._done.values())
