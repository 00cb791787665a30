"""The routes that write text: chat, completions, and the tokens of both."""

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from engines.inference import Inference
from engines.types import Delta, Done
from openai_compat.answers import answer
from openai_compat.choices import events
from openai_compat.fields import Parsed, parse_chat, parse_completion, parse_detokenize, parse_tokenize
from openai_compat.leaving import until_gone
from openai_compat.stream import AnswerStream

LONGEST_TOLD = 2000


class TextRoutes:
    def __init__(self, inference: Inference, admission_seconds: float, keepalive_seconds: float) -> None:
        self._inference = inference
        self._admission = admission_seconds
        self._keepalive = keepalive_seconds

    async def chat(self, request: Request) -> Response:
        return await self._answered(request, parse_chat(await request.body(), _trace(request)))

    async def complete(self, request: Request) -> Response:
        return await self._answered(request, parse_completion(await request.body(), _trace(request)))

    async def tokenize(self, request: Request) -> Response:
        asked, ignored = parse_tokenize(await request.body(), _trace(request))
        found = await until_gone(request, self._inference.tokenize(asked))
        body = {"tokens": found.tokens, "count": len(found.tokens), "max_model_len": found.context_length}
        return JSONResponse(body, headers=_headers(ignored))

    async def detokenize(self, request: Request) -> Response:
        model, tokens, ignored = parse_detokenize(await request.body())
        text = await until_gone(request, self._inference.detokenize(model, tokens))
        return JSONResponse({"prompt": text}, headers=_headers(ignored))

    async def _answered(self, request: Request, parsed: Parsed) -> Response:
        headers = _headers(parsed.ignored)
        if parsed.stream:
            return AnswerStream(self._inference, parsed, headers, self._admission, self._keepalive)
        return JSONResponse(await until_gone(request, self._whole(parsed)), headers=headers)

    async def _whole(self, parsed: Parsed) -> dict[str, Any]:
        made = answer(parsed)
        async with aclosing(events(self._inference, parsed)) as numbered:
            async for number, event in numbered:
                if isinstance(event, Delta | Done):
                    made.take(number, event)
        return made.whole()


def _trace(request: Request) -> str:
    return str(request.scope["state"]["trace"])


def _headers(ignored: tuple[str, ...]) -> dict[str, str]:
    return {"X-Ignored-Fields": _told_back(ignored)} if ignored else {}


def _told_back(names: Sequence[str]) -> str:
    """The names for a header, harmless; clients refuse headers of many kilobytes, so what is beyond is counted."""
    shown: list[str] = []
    left = LONGEST_TOLD
    for name in names:
        text = quote(name, safe="")
        left -= len(text) + 2
        if left < 0:
            return ", ".join([*shown, f"... and {len(names) - len(shown)} more"])
        shown.append(text)
    return ", ".join(shown)
