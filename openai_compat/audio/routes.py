"""The routes of recordings and speech."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Iterable, Set
from contextlib import aclosing
from pathlib import Path

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from engines.synthesis.model_choice import speaker
from engines.types.audio import SpeechData, SpeechDone, SpeechRequest, Transcript, TranscriptionEvent, Voice
from engines.types.common import Json
from engines.types.inference import Inference
from engines.types.streams import last
from http_server.disconnect import until_gone
from http_server.multipart import Form, receive
from http_server.response_headers import audio_track, ignored, incomplete, tenant_of, trace_of
from http_server.streaming import EventStream, StreamOptions
from http_server.uploads import Handler, Spooled
from openai_compat.audio import transcript_answers as answers
from openai_compat.audio.speech_answers import SpeechBody, SpeechEvents
from openai_compat.audio.speech_fields import REFERENCE, ParsedSpeech, media_type, parse_body, parse_form, recording_of
from openai_compat.audio.transcription_fields import (
    FILE,
    SAMPLES,
    ParsedTranscription,
    parse_alignment,
    parse_listening,
    parse_voice,
)
from openai_compat.names import OPENAI_LISTENS, OPENAI_SPEAKS, DefaultModels, meant

log = logging.getLogger("http")

UPLOADS = frozenset(
    f"/v1/audio/{name}" for name in ("transcriptions", "translations", "alignments", "speech", "voices")
)


class AudioRouteOptions(msgspec.Struct, frozen=True):
    """`scratch` is the folder for uploads, "" the system's; `longest_input` counts characters of a text to speak."""

    defaults: DefaultModels
    scratch: str
    longest_input: int
    streams: StreamOptions


class AudioRoutes:
    def __init__(self, inference: Inference, options: AudioRouteOptions) -> None:
        self._inference = inference
        self._options = options

    def routes(self) -> list[Route]:
        def spooled(path: str, handler: Handler, *methods: str) -> Route:
            return Route(path, Spooled(handler, self._options.scratch), methods=["POST", *methods])

        return [
            spooled("/v1/audio/transcriptions", self.transcribe),
            spooled("/v1/audio/translations", self.translate),
            spooled("/v1/audio/alignments", self.align),
            spooled("/v1/audio/speech", self.speak),
            spooled("/v1/audio/voices", self.voices, "GET"),
            Route("/v1/audio/voices/{name:path}", self.delete_voice, methods=["DELETE"]),
        ]

    async def transcribe(self, request: Request, folder: Path) -> Response:
        form = await _received(request, folder, FILE)
        return await self._listen(request, parse_listening(form, trace_of(request), translate=False))

    async def translate(self, request: Request, folder: Path) -> Response:
        form = await _received(request, folder, FILE)
        return await self._listen(request, parse_listening(form, trace_of(request), translate=True))

    async def align(self, request: Request, folder: Path) -> Response:
        asked, unknown = parse_alignment(await _received(request, folder, FILE), trace_of(request))
        model = await meant(self._inference, asked.model, self._options.defaults.alignment)
        found = await until_gone(request, self._inference.align(msgspec.structs.replace(asked, model=model)))
        return JSONResponse(answers.aligned(found), headers=ignored(unknown) | audio_track(found.track, found.tracks))

    async def speak(self, request: Request, folder: Path) -> Response:
        asked = await self._to_speak(request, folder)
        model = await self._speaker(asked.request)
        asked = msgspec.structs.replace(asked, request=msgspec.structs.replace(asked.request, model=model))
        headers = ignored(asked.ignored)
        if asked.events:
            return SpeechEvents(self._inference, asked, headers, self._options.streams)
        if asked.request.streamed:
            return SpeechBody(self._inference, asked, headers)
        data, done = await until_gone(request, self._spoken(asked.request))
        return Response(data, headers={**headers, **incomplete(done.incomplete)}, media_type=media_type(asked.request))

    async def voices(self, request: Request, folder: Path) -> Response:
        if request.method == "POST":
            return await self.store_voice(request, folder)
        name = request.query_params.get("model", "")
        model = await meant(self._inference, name, self._options.defaults.speech, OPENAI_SPEAKS)
        found = [_voice(voice) for voice in await until_gone(request, self._inference.voices(model))]
        return JSONResponse({"object": "list", "data": found, "voices": found})

    async def store_voice(self, request: Request, folder: Path) -> Response:
        asked = parse_voice(await _received(request, folder, SAMPLES))
        work = self._inference.store_voice(asked.name, asked.path, asked.text, asked.consent)
        voice = await until_gone(request, work)
        return JSONResponse({**_voice(voice), "created_at": int(time.time())}, headers=ignored(asked.ignored))

    async def delete_voice(self, request: Request) -> Response:
        name = request.path_params["name"]
        await until_gone(request, self._inference.delete_voice(name))
        return JSONResponse({"id": name, "object": "audio.voice.deleted", "deleted": True})

    async def _listen(self, request: Request, asked: ParsedTranscription) -> Response:
        defaults = self._options.defaults
        default = defaults.translation if asked.request.translate else defaults.transcription
        model = await meant(self._inference, asked.request.model, default, OPENAI_LISTENS)
        listened = msgspec.structs.replace(asked.request, model=model, tenant=tenant_of(request))
        asked = msgspec.structs.replace(asked, request=listened)
        headers = ignored(asked.ignored)
        if asked.stream:
            return TranscriptEvents(self._inference, asked, headers, self._options.streams)
        try:
            transcript = await until_gone(request, last(self._inference.transcribe(asked.request), Transcript))
        except ClientDisconnect:
            log.warning(
                "request %s: the client left before its whole transcript was there; what was heard is kept for a "
                "while, for a retry, and with stream=true text comes at once",
                asked.request.trace,
            )
            raise
        headers |= incomplete(transcript.incomplete) | audio_track(transcript.track, transcript.tracks)
        body = await asyncio.to_thread(answers.whole, asked, transcript)
        return Response(body, headers=headers, media_type=answers.MEDIA_TYPES[asked.format])

    async def _to_speak(self, request: Request, folder: Path) -> ParsedSpeech:
        trace, longest = trace_of(request), self._options.longest_input
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            return parse_form(await _received(request, folder, REFERENCE), trace, longest)
        asked = parse_body(await request.body(), trace, longest)
        if not asked.reference:
            return asked
        path = folder / "reference"
        await asyncio.to_thread(lambda: path.write_bytes(recording_of(asked.reference)))
        return msgspec.structs.replace(
            asked, reference="", request=msgspec.structs.replace(asked.request, reference_path=str(path))
        )

    async def _speaker(self, request: SpeechRequest) -> str:
        """The name of the model to ask."""
        if named := await meant(self._inference, request.model, "", OPENAI_SPEAKS):
            return named
        defaults, recorded = self._options.defaults, bool(request.reference_path)
        return await speaker(self._inference, defaults.speech, defaults.imitation, request.voice, recorded)

    async def _spoken(self, request: SpeechRequest) -> tuple[bytes, SpeechDone]:
        pieces: list[bytes] = []

        async def taken(event: object) -> None:
            if isinstance(event, SpeechData):
                pieces.append(event.data)

        done = await last(self._inference.speak(request), SpeechDone, taken)
        return b"".join(pieces), done


class TranscriptEvents(EventStream[tuple[Json, ...]]):
    """OpenAI's events of a transcript, and how far it is."""

    def __init__(
        self, inference: Inference, asked: ParsedTranscription, headers: dict[str, str], options: StreamOptions
    ) -> None:
        super().__init__(asked.request.trace, headers, options)
        self._inference = inference
        self._asked = asked

    async def events(self) -> AsyncGenerator[tuple[Json, ...]]:
        async with aclosing(self._inference.transcribe(self._asked.request)) as events:
            async for event in events:
                if isinstance(event, Transcript):
                    yield await asyncio.to_thread(self._told, event)
                else:
                    yield self._told(event)

    def admits(self, item: tuple[Json, ...]) -> bool:
        return bool(item)

    def said(self, item: tuple[Json, ...]) -> Iterable[Json]:
        return item

    def _told(self, event: TranscriptionEvent) -> tuple[Json, ...]:
        return tuple(answers.events(self._asked, event))


async def _received(request: Request, folder: Path, files: Set[str]) -> Form:
    return await receive(request.headers.get("content-type", ""), request.stream(), folder, files)


def _voice(voice: Voice) -> Json:
    """OpenAI's object, and what else is known. Its `id` is its name."""
    known: Json = msgspec.to_builtins(voice)
    created = known.pop("created")
    return {"id": voice.name, "object": "audio.voice", "type": "audio_sample", **known, "created_at": created}
