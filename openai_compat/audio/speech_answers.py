"""Speech as it is made: the file's bytes, or OpenAI's events."""

import asyncio
import base64
import logging
from collections.abc import AsyncGenerator, Iterable

from starlette.types import Send

from engines.types.audio import SpeechData, SpeechDone, SpeechEvent, SpeechProgress
from engines.types.common import Json, Started
from engines.types.errors import ServiceError
from engines.types.inference import Inference
from http_server.streaming import EventStream, LiveAnswer, StreamOptions
from openai_compat.audio.speech_fields import ParsedSpeech, media_type

BYTES_AN_EVENT = 48 << 10  # a whole number of base64's groups

log = logging.getLogger("http")

Items = asyncio.Queue[SpeechEvent | ServiceError | None]


class SpeechEvents(EventStream[SpeechEvent]):
    """`speech.audio.delta` with base64, each of whole bytes, and `speech.audio.done`."""

    def __init__(
        self, inference: Inference, asked: ParsedSpeech, headers: dict[str, str], options: StreamOptions
    ) -> None:
        super().__init__(asked.request.trace, headers, options)
        self._inference = inference
        self._asked = asked

    def events(self) -> AsyncGenerator[SpeechEvent]:
        return self._inference.speak(self._asked.request)

    def admits(self, item: SpeechEvent) -> bool:
        return not isinstance(item, Started | SpeechProgress)

    def said(self, item: SpeechEvent) -> Iterable[Json]:
        match item:
            case SpeechData():
                for start in range(0, len(item.data), BYTES_AN_EVENT):
                    piece = base64.b64encode(item.data[start : start + BYTES_AN_EVENT]).decode()
                    yield {"type": "speech.audio.delta", "audio": piece}
            case SpeechDone():
                yield _done(item)


class SpeechBody(LiveAnswer[SpeechEvent]):
    """The file's bytes. What fails before the first has its true status. What fails later, or is incomplete, ends in a
    body that is broken off: nothing else in it can say so."""

    def __init__(self, inference: Inference, asked: ParsedSpeech, headers: dict[str, str]) -> None:
        super().__init__(asked.request.trace, headers, media_type(asked.request))
        self._inference = inference
        self._asked = asked

    def events(self) -> AsyncGenerator[SpeechEvent]:
        return self._inference.speak(self._asked.request)

    async def talk(self, items: Items, send: Send) -> None:
        item = await items.get()
        while isinstance(item, Started | SpeechProgress):
            item = await items.get()
        if isinstance(item, ServiceError):
            raise item
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        while item is not None:
            if isinstance(item, ServiceError) or (isinstance(item, SpeechDone) and item.incomplete):
                why = item.message if isinstance(item, ServiceError) else " ".join(item.incomplete)
                log.warning("request %s: the sound is broken off: %s", self._asked.request.trace, why)
                return  # without an end of the body: the server closes the connection
            if isinstance(item, SpeechData) and item.data:
                await send({"type": "http.response.body", "body": item.data, "more_body": True})
            item = await items.get()
        await send({"type": "http.response.body", "body": b""})


def _done(done: SpeechDone) -> Json:
    usage = done.usage
    told: Json = {
        "type": "speech.audio.done",
        "usage": {
            "input_tokens": usage.prompt_tokens,
            "output_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        },
        "seconds": round(done.seconds, 3),
    }
    if done.incomplete:
        told["incomplete"] = done.incomplete
    return told
