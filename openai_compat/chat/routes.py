"""The routes that write text: chat, completions, and the tokens of both."""

from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from engines.types.inference import Inference
from http_server.disconnect import until_gone
from http_server.response_headers import adjusted, ignored, trace_of
from http_server.streaming import StreamOptions
from openai_compat.chat.answers import Answer, answer
from openai_compat.chat.choices import events
from openai_compat.chat.fields import Parsed, parse_chat, parse_completion, parse_detokenize, parse_tokenize
from openai_compat.chat.stream import AnswerStream


class TextRoutes:
    def __init__(self, inference: Inference, streams: StreamOptions) -> None:
        self._inference = inference
        self._streams = streams

    async def chat(self, request: Request) -> Response:
        return await self._answered(request, parse_chat(await request.body(), trace_of(request)))

    async def complete(self, request: Request) -> Response:
        return await self._answered(request, parse_completion(await request.body(), trace_of(request)))

    async def tokenize(self, request: Request) -> Response:
        asked, unknown = parse_tokenize(await request.body(), trace_of(request))
        found = await until_gone(request, self._inference.tokenize(asked))
        body = {"tokens": found.tokens, "count": len(found.tokens), "max_model_len": found.context_length}
        return JSONResponse(body, headers=ignored(unknown))

    async def detokenize(self, request: Request) -> Response:
        model, tokens, unknown = parse_detokenize(await request.body())
        text = await until_gone(request, self._inference.detokenize(model, tokens))
        return JSONResponse({"prompt": text}, headers=ignored(unknown))

    async def _answered(self, request: Request, parsed: Parsed) -> Response:
        headers = ignored(parsed.ignored)
        if parsed.stream:
            return AnswerStream(self._inference, parsed, headers, self._streams)
        made = await until_gone(request, self._made(parsed))
        return JSONResponse(made.whole(), headers={**headers, **adjusted(made.adjusted)})

    async def _made(self, parsed: Parsed) -> Answer:
        made = answer(parsed)
        async with aclosing(events(self._inference, parsed)) as numbered:
            async for number, event in numbered:
                made.take(number, event)
        return made
