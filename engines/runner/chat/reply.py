"""A chat model's reply, text in any pieces → what it thought, what it says and which tools it calls. Pure.

Two rules hold for every reply, and for every way in which it is cut into pieces:

- Nothing vanishes. All that the model wrote is reasoning, text, a call or an unfinished call; dropped are only the
  markers and a call's own syntax, newlines at the borders of a thought, and white space around calls.
- A call is a call when its JSON object is complete and names a declared tool. Markup around it is mended; what is no
  call stays text, tags included. If some of it was shown as a call before it broke, its raw text is an unfinished call.

Every decision is taken at one character, from what came before it, so how the text was cut can't matter.
"""

import secrets
from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Literal

from engines.runner.chat.call_formats import HERMES, BlockParser, Format
from engines.runner.generation.output_parser import End, Phase
from engines.types.chat import CallDelta, Delta
from engines.types.common import Json

# Beyond the phases: `bare` may turn out to be a call without its opening tag, `broken` was shown as a call and is none.
_Mode = Literal["start", "thinking", "answer", "call", "bare", "broken"]
_Kind = Literal["text", "reasoning", "arguments"]

_THINK, _THINK_END = "<think>", "</think>"


def random_call_id() -> str:
    return "call_" + secrets.token_hex(12)


class ReplyParser:
    """One reply. `tools` are the declared names, with their parameters where the `format` of calls needs those: without
    any, there are no calls.

    `thinking` says whether a thought may begin the reply (`possible`), was begun by the template (`open`), or whether
    the model knows no thoughts (`absent`). `separate` False leaves the thought in the text as it was written.
    """

    def __init__(
        self,
        tools: frozenset[str] | Mapping[str, Json],
        *,
        format: Format = HERMES,
        thinking: Literal["absent", "possible", "open"],
        separate: bool = True,
        parallel: bool = True,
        ids: Callable[[], str] = random_call_id,
    ) -> None:
        self._tools = tools if isinstance(tools, Mapping) else dict.fromkeys(tools, Json())
        self._format = format
        closing = (format.closing,) if format.closing else ()
        self._openings = format.openings if tools else ()
        self._in_block = (*(mark for mark in format.openings if mark not in format.inner), *closing)
        self._first = frozenset(mark[0] for mark in (_THINK, *format.openings, *closing))
        self._separate = separate
        self._parallel = parallel
        self._ids = ids
        modes: dict[str, _Mode] = {"absent": "answer", "possible": "start", "open": "thinking"}
        self._mode: _Mode = modes[thinking]
        self._out = _Out()
        self._held = ""  # may become a marker
        self._space: list[str] = []  # may stand next to a marker
        self._skip = separate and thinking == "open"  # newlines at the border of a thought
        self._last: Literal["nothing", "text", "call"] = "nothing"  # of the answer
        self._block: BlockParser = format.block(self._tools, "", "")
        self._index: int | None = None  # of the call that is being shown
        self._shown = 0
        self._called = False
        self._broken: list[int] = []
        self._unfinished: list[str] = []
        self._steps: dict[_Mode, Callable[[str], None]] = {
            "start": self._in_start,
            "thinking": self._in_thought,
            "answer": self._in_answer,
            "call": self._in_call,
            "bare": self._in_bare,
            "broken": self._in_broken,
        }

    @property
    def phase(self) -> Phase:
        """Where the text fed so far has led; "start": only white space yet, and a thought may still begin."""
        match self._mode:
            case "bare":
                return "answer"
            case "broken":
                return "call"
            case mode:
                return mode

    @property
    def ended(self) -> bool:
        """Whether the one call that was allowed is made: the reply ends there, and what is fed further is no part."""
        return self._called and not self._parallel

    def feed(self, text: str) -> list[Delta]:
        for c in text:
            if self.ended:
                break
            self._feed(c)
        return self._out.take()

    def finish(self, *, cut: bool) -> End:
        """No more text comes; `cut`: because the length limit was reached."""
        held, self._held = self._held, ""
        block = self._block
        if self._mode in ("call", "broken", "bare") and not block.behind:
            block.raw.append(held)
            if self._mode != "bare" and (cut or self._index is not None):
                self._break_off()
            else:
                self._leave_as_text()
        else:
            for c in held:
                self._steps[self._mode](c)
        self._flush_space()
        return End(tuple(self._out.take()), tuple(self._broken), "".join(self._unfinished), self._called)

    # Markers: `<` or `[` begins one and stands nowhere else in it, so a text that fails to be one holds no other.

    def _feed(self, c: str) -> None:
        if c not in self._first and not self._held:
            self._steps[self._mode](c)
            return
        so_far = self._held + c
        markers = self._markers()
        if so_far in markers:
            self._held = ""
            self._marker(so_far)
        elif any(marker.startswith(so_far) for marker in markers):
            self._held = so_far
        elif self._held:
            failed, self._held = self._held, ""
            for plain in failed:
                self._steps[self._mode](plain)
            self._feed(c)
        else:
            self._steps[self._mode](c)

    def _markers(self) -> tuple[str, ...]:
        match self._mode:
            case "start":
                return (_THINK, *self._openings)
            case "thinking":
                return (_THINK_END,)
            case "answer":
                return self._openings
            case "call" | "bare" if self._block.in_string:
                return ()
            case "bare" if not self._bare_complete():
                return self._openings
        return self._in_block

    def _marker(self, marker: str) -> None:
        if marker == _THINK:
            self._begin_thought()
        elif marker == _THINK_END:
            self._end_thought()
        elif self._mode == "call":
            self._tag_in_call(marker)
        elif self._mode == "broken":
            self._break_off_at(marker)
        elif self._mode == "bare" and marker == self._format.closing:
            self._show_call()
            self._end_block()
        elif self._mode == "bare":
            self._leave_before_tag()
            self._begin_block(marker)
        else:
            self._begin_block(marker)

    # Thoughts

    def _in_start(self, c: str) -> None:
        if c.isspace():
            self._space.append(c)
        else:
            self._mode = "answer"
            self._in_answer(c)

    def _begin_thought(self) -> None:
        self._mode = "thinking"
        space = self._take_space()
        if self._separate:
            self._skip = True
        else:
            self._out.add("text", space + _THINK)

    def _in_thought(self, c: str) -> None:
        if not self._separate:
            self._out.add("text", c)
        elif c not in "\r\n":
            self._skip = False
            self._out.add("reasoning", self._take_space() + c)
        elif not self._skip:
            self._space.append(c)

    def _end_thought(self) -> None:
        self._mode = "answer"
        if self._separate:
            self._skip = True
            self._space.clear()
        else:
            self._out.add("text", _THINK_END)

    # The answer

    def _in_answer(self, c: str) -> None:
        if self._skip and c in "\r\n":
            return
        self._skip = False
        if self._tools and c.isspace():
            self._space.append(c)
        elif self._tools and self._format.bare and c == "{" and self._last != "text":
            self._mode = "bare"
            self._block = self._format.block(self._tools, "", self._take_space())
            self._block.feed(c)
        else:
            self._say(self._take_space() + c)

    def _say(self, text: str) -> None:
        self._last = "text"
        self._out.add("text", text)

    def _take_space(self) -> str:
        space = "".join(self._space)
        self._space.clear()
        return space

    def _flush_space(self) -> None:
        space = self._take_space()
        if self._mode == "thinking":
            self._out.add("reasoning", space)
        elif self._last != "call":
            self._out.add("text", space)

    # Calls

    def _begin_block(self, opening: str) -> None:
        self._mode, self._skip = "call", False
        self._block = self._format.begun(opening, self._tools, self._take_space())

    def _end_block(self) -> None:
        self._mode, self._last = "answer", "call"

    def _in_call(self, c: str) -> None:
        if self._block.feed(c):
            self._show_call()
        elif self._index is not None:
            self._mode = "broken"
            self._block.raw.append(c)
        else:
            self._leave_as_text()
            self._in_answer(c)

    def _in_broken(self, c: str) -> None:
        self._block.raw.append(c)

    def _in_bare(self, c: str) -> None:
        block = self._block
        if self._bare_complete() and c.isspace():
            block.raw.append(c)
        elif self._bare_complete() or not block.feed(c):
            self._leave_as_text()
            self._in_answer(c)

    def _bare_complete(self) -> bool:
        return self._block.call is not None and self._block.call.complete

    def _tag_in_call(self, tag: str) -> None:
        block = self._block
        if block.call is not None and block.call.close():
            self._show_call()
        if block.behind:
            self._end_block()
            if tag != self._format.closing and not self.ended:
                self._begin_block(tag)
        elif self._index is not None:
            self._break_off_at(tag)
        elif tag == self._format.closing:
            block.raw.append(tag)
            self._leave_as_text()
        elif block.call is None:
            block.raw.append(tag)  # the opening tag twice
        else:
            self._leave_before_tag()
            self._begin_block(tag)

    def _show_call(self) -> None:
        """Hand on what is new of the block's call."""
        call = self._block.call
        if call is None:
            return
        if call.ready:
            if self._index is None:
                self._index, self._shown = self._shown, self._shown + 1
                self._out.begin_call(self._index, self._ids(), call.name)
            self._out.add("arguments", call.take(), self._index)
        if call.complete:
            self._called, self._index = True, None
            self._block.completed()

    def _break_off_at(self, tag: str) -> None:
        if tag == self._format.closing:
            self._block.raw.append(tag)
        self._break_off()
        if tag != self._format.closing:
            self._begin_block(tag)

    def _break_off(self) -> None:
        """The block's call was cut, or is none although some of it was shown."""
        self._unfinished.append("".join(self._block.raw))
        self._broken += [] if self._index is None else [self._index]
        self._index = None
        self._end_block()

    def _leave_as_text(self) -> None:
        self._mode = "answer"
        self._say(self._block.lead + "".join(self._block.raw))

    def _leave_before_tag(self) -> None:
        """As text, but for the white space before the tag that follows."""
        text = self._block.lead + "".join(self._block.raw)
        self._say(text.rstrip())
        self._space = list(text[len(text.rstrip()) :])


class _Out:
    """Deltas in the order of what they hold, neighbours of a kind joined."""

    def __init__(self) -> None:
        self._deltas: list[Delta] = []
        self._kind: tuple[_Kind, int] = ("text", 0)
        self._parts: list[str] = []

    def add(self, kind: _Kind, text: str, index: int = 0) -> None:
        if (kind, index) != self._kind:
            self._join()
            self._kind = (kind, index)
        self._parts.append(text)

    def begin_call(self, index: int, id: str, name: str) -> None:
        self._join()
        self._deltas.append(Delta(calls=(CallDelta(index, id, name),)))

    def take(self) -> list[Delta]:
        self._join()
        taken, self._deltas = self._deltas, []
        if len(taken) < 2:
            return taken
        deltas: list[Delta] = []
        for of_calls, group in groupby(taken, key=lambda delta: bool(delta.calls)):
            if of_calls:
                deltas.append(Delta(calls=tuple(call for delta in group for call in delta.calls)))
            else:
                deltas.extend(group)
        return deltas

    def _join(self) -> None:
        text = "".join(self._parts)
        self._parts.clear()
        if not text:
            return
        kind, index = self._kind
        match kind:
            case "text":
                self._deltas.append(Delta(text=text))
            case "reasoning":
                self._deltas.append(Delta(reasoning=text))
            case "arguments":
                self._deltas.append(Delta(calls=(CallDelta(index, arguments=text),)))
