"""A piece's text on its way to the client while it is still being heard: one task writes, another one reads."""

import asyncio
import re

import msgspec

from engines.text.stable_prefix import StablePrefix
from engines.types.audio import PieceRequest, PieceText

# What Qwen3-ASR may write of silence where its language was given: whether somebody said it isn't known until it ends.
NOBODY = re.compile(r"\s*(?:None\s*)+")
MAY_BE_NOBODY = re.compile(r"\s*(?:None\s*)*(?:N|No|Non)?")


class PartialText:
    """What may be told of one piece before it is final. It stays, however often the model is asked: see `continued`."""

    def __init__(self) -> None:
        self._prefix = StablePrefix()
        self._language = ""
        self._doubted = ""
        self._ready: asyncio.Queue[str] = asyncio.Queue()

    @property
    def told(self) -> str:
        """All of it, as the model wrote it."""
        return self._prefix.stable

    def continued(self, request: PieceRequest) -> PieceRequest:
        """The request for the rest, in the language that was heard. It begins with what was told."""
        if not self.told:
            return request
        return msgspec.structs.replace(request, beginning=self.told, language=request.language or self._language)

    def begin(self) -> None:
        """The model begins to answer, behind what was told."""
        self._prefix = StablePrefix(self.told)
        self._doubted = ""

    def take(self, text: PieceText) -> None:
        """More of the answer."""
        self._language = text.language
        if not self.told and MAY_BE_NOBODY.fullmatch(self._doubted + text.text):
            self._doubted += text.text
            return
        doubted, self._doubted = self._doubted, ""
        if more := self._prefix.feed(doubted) + self._prefix.feed(text.text):
            self._ready.put_nowait(more)

    def end(self) -> None:
        """The piece is final, or has failed; nothing more is told early."""
        self._ready.put_nowait("")

    async def next(self) -> str:
        """What more may be told, as it comes; "" at the end."""
        return await self._ready.get()
