"""One text being spoken: its pieces in order, each judged, made again if it can't be whole."""

import asyncio
from array import array
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import msgspec

from engines.synthesis import crossfade, duration_check
from engines.synthesis.completeness import Made, is_enough
from engines.synthesis.ordered_concurrency import OrderedTasks
from engines.synthesis.recall import recall
from engines.synthesis.sentences import TextPiece
from engines.types.audio import VOICE_RATE, Sound, SpeechProgress, UtteranceDone, UtteranceRequest
from engines.types.common import Started, Usage
from engines.types.errors import InternalError
from engines.types.streams import retry_on_death

TRIES = 3

UtteranceEvents = AsyncGenerator[Started | Sound | UtteranceDone]
Utter = Callable[[UtteranceRequest], UtteranceEvents]
# A text, sound of it, its language, a trace → the text and what is heard of it, comparable; None: nobody could listen.
Listen = Callable[[str, bytes, str, str], Awaitable[tuple[str, str] | None]]


class Work:
    """One text being spoken. What was made of it so far can be read at any time."""

    def __init__(
        self, utter: Utter, asked: UtteranceRequest, pieces: Sequence[TextPiece], listen: Listen | None = None
    ) -> None:
        self._utter = utter
        self._listen = listen
        self._asked = asked
        self._pieces = pieces
        self._instructed = bool(asked.instructions.strip())
        self._level = 0.0
        self._started: asyncio.Future[Started] = asyncio.get_running_loop().create_future()
        self._first: asyncio.Task[Made] | None = None
        self.samples = 0
        self.usage = Usage(0, 0)
        self.incomplete: list[str] = []

    async def run(self, streamed: bool, most: int) -> AsyncGenerator[Started | bytes | SpeechProgress]:
        """`Started`, then the sound, joined, with progress behind each piece. At most so many are in work at a time."""
        ahead = OrderedTasks(self._made, 1 if streamed else 0, len(self._pieces), most)
        try:
            if streamed:
                async with aclosing(self._heard(ahead)) as first:
                    async for event in first:
                        yield event
                yield SpeechProgress(1, len(self._pieces))
            else:
                ahead.begin()
                either: set[asyncio.Future[Any]] = {self._started, ahead.head}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if self._started.done():
                    yield self._started.result()
            for number in range(1 if streamed else 0, len(self._pieces)):
                made = await ahead.next()
                for sound in await self._joined(made, number):
                    yield sound
                yield SpeechProgress(number + 1, len(self._pieces))
            if self._first is not None:
                self._note(await self._first, 0)
        finally:
            if self._first is not None:
                self._first.cancel()
                await asyncio.gather(self._first, return_exceptions=True)
            await ahead.close()

    # -- one piece ----------------------------------------------------------------------------------------------

    async def _heard(self, ahead: OrderedTasks[Made]) -> AsyncGenerator[Started | bytes]:
        """The first piece, as it is made. The next is begun as soon as there is sound of it."""
        running, whole = crossfade.Running(), array("f")
        done: UtteranceDone | None = None
        async with aclosing(self._utter(self._request(0, 0))) as events:
            async for event in events:
                match event:
                    case Started():
                        yield event
                    case Sound():
                        sound = _array(event.samples)
                        whole += sound
                        if ready := running.add(sound):
                            yield ready
                        ahead.begin()
                    case UtteranceDone():
                        done = event
        yield running.end()
        made = await asyncio.to_thread(self._judged, 0, whole, _ended(done))
        self._take(made, len(whole))
        # It was heard already, so nobody waits for what is thought of it before the end.
        self._first = asyncio.create_task(self._checked(0, made))
        yield self._pause(0)

    async def _made(self, number: int) -> Made:
        """The best of some tries."""
        tries: list[Made] = []
        while not is_enough(tries, TRIES):
            # If the model's process dies, nobody has heard any of it.
            made = await retry_on_death(partial(self._tried, number, len(tries)))
            tries.append(await self._checked(number, made))
        best = min(tries, key=lambda made: made.rank)
        return msgspec.structs.replace(best, usage=_total([made.usage for made in tries]))

    async def _tried(self, number: int, attempt: int) -> Made:
        sound = array("f")
        done: UtteranceDone | None = None
        async with aclosing(self._utter(self._request(number, attempt))) as events:
            async for event in events:
                match event:
                    case Started() if not self._started.done():
                        self._started.set_result(event)
                    case Sound():
                        sound += _array(event.samples)
                    case UtteranceDone():
                        done = event
        return await asyncio.to_thread(self._judged, number, sound, _ended(done))

    async def _checked(self, number: int, made: Made) -> Made:
        """As it is to be judged by who hears it, where its length leaves a doubt and somebody can listen."""
        text = self._pieces[number].text
        doubtful = duration_check.is_doubtful(text, made.seconds, made.verdict, self._instructed)
        if self._listen is None or not doubtful:
            return made
        texts = await self._listen(text, made.sound, self._asked.language, self._asked.trace)
        return made if texts is None else made.heard(await asyncio.to_thread(recall, *texts))

    def _request(self, number: int, attempt: int) -> UtteranceRequest:
        text, seed = self._pieces[number].text, self._asked.seed
        return msgspec.structs.replace(
            self._asked,
            text=text,
            max_seconds=duration_check.cap(text, self._instructed),
            seed=None if seed is None else (seed + number * TRIES + attempt) % (1 << 63),
        )

    def _judged(self, number: int, sound: crossfade.Sound, done: UtteranceDone) -> Made:
        verdict = duration_check.judge(
            self._pieces[number].text,
            len(sound) / VOICE_RATE,
            crossfade.loudest(sound),
            capped=done.finish_reason == "length",
            instructed=self._instructed,
        )
        return Made(sound.tobytes(), crossfade.level(sound), verdict, done.usage)

    # -- all of them --------------------------------------------------------------------------------------------

    async def _joined(self, made: Made, number: int) -> list[bytes]:
        """A piece at the level of those before it, and the pause after it."""
        sound = await asyncio.to_thread(crossfade.fitted, _array(made.sound), self._level)
        self._take(made, len(sound) // 4)
        self._note(made, number)
        return [part for part in (sound, self._pause(number)) if part]

    def _take(self, made: Made, samples: int) -> None:
        """Count what was made. The first piece with any sound sets the level."""
        self.samples += samples
        self.usage = _total([self.usage, made.usage])
        self._level = self._level or made.level

    def _note(self, made: Made, number: int) -> None:
        """Say what is wrong with a piece, if anything is; of the first before the others."""
        if made.verdict != "whole":
            told = made.told(self._pieces[number].text, number, len(self._pieces))
            self.incomplete.insert(0 if number == 0 else len(self.incomplete), told)

    def _pause(self, number: int) -> bytes:
        pause = crossfade.silence(self._pieces[number].pause)
        self.samples += len(pause) // 4
        return pause


def _array(samples: bytes) -> crossfade.Sound:
    return array("f", samples)


def _total(usages: Sequence[Usage]) -> Usage:
    return Usage(sum(usage.prompt_tokens for usage in usages), sum(usage.completion_tokens for usage in usages))


def _ended(done: UtteranceDone | None) -> UtteranceDone:
    if done is None:
        raise InternalError("The model's process stopped in mid-sentence. Try again.")
    return done
