"""Which orders of turns a chat template renders, found by trying it; a conversation brought into such an order. Pure.

Templates raise on orders that they don't expect, or drop or move a turn without a word. So each pair of neighbours is
tried once with words that can be found again. What doesn't stand in its place is brought into the nearest order that
does: a system text becomes part of the user's turn where it stands, neighbours of one role become one turn, and between
two turns that can't be neighbours an empty one is put. Each decision looks at the turn before alone, so that a longer
conversation begins as the shorter one did, as far as the template lets it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import msgspec
from msgspec.structs import replace

from engines.types.chat import Message, ToolCall

Kind = Literal["start", "system", "user", "assistant", "calls", "results"]
# The kind of the turn before, and who of user and assistant spoke last: some templates count turns of calls.
Place = tuple[Kind, Literal["nobody", "user", "assistant"]]

# What leads to a place, and what may stand behind a kind, in the order that every template expects.
_LEADS: dict[Place, tuple[Kind, ...]] = {
    ("start", "nobody"): (),
    ("system", "nobody"): ("system",),
    ("system", "user"): ("user", "system"),
    ("system", "assistant"): ("user", "assistant", "system"),
    ("user", "user"): ("user",),
    ("assistant", "assistant"): ("user", "assistant"),
    ("calls", "nobody"): ("calls",),
    ("calls", "user"): ("user", "calls"),
    ("calls", "assistant"): ("user", "assistant", "calls"),
    ("results", "nobody"): ("calls", "results"),
    ("results", "user"): ("user", "calls", "results"),
    ("results", "assistant"): ("user", "assistant", "calls", "results"),
}
_SPOKEN: tuple[Place, ...] = (("user", "user"), ("assistant", "assistant"))
_LATER = frozenset(_LEADS) - {("start", "nobody"), ("system", "nobody")}
_TAILS: dict[Kind, tuple[Kind, ...]] = {"system": ("user",), "assistant": ("user",), "calls": ("results",)}
_FILLERS = ("", "…")  # the first with which the turns beside it are rendered


class Manners(msgspec.Struct, frozen=True):
    """What a template renders with nothing lost.

    `follows` says which kind may come where, `last_system` where a system text may come last,
    `calls` whether calls and their results have turns of their own, `text_with_calls` and `several_calls` what a turn
    of calls may hold. `text_arguments` says whether arguments that are no object may be a text, `json_arguments`
    whether all must be, `short_ids` whether ids of calls must be short. `fillers` are what an empty turn of the user
    and of the assistant holds.
    """

    follows: frozenset[tuple[Place, Kind]]
    last_system: frozenset[Place] = frozenset()
    calls: bool = False
    text_with_calls: bool = True
    several_calls: bool = True
    text_arguments: bool = True
    json_arguments: bool = False
    short_ids: bool = False
    fillers: tuple[str, str] = ("", "")


# What any template for conversations takes: user and assistant in turn, nothing else.
PLAINEST = Manners(
    frozenset({(("start", "nobody"), "user"), (("user", "user"), "assistant"), (("assistant", "assistant"), "user")})
)

Shown = Callable[[Sequence[Message], Manners], str | None]  # the text, None if the template refuses


def probed(shown: Shown) -> Manners:
    """A template's manners; the plainest if it renders not even a question."""
    if shown([_message("user", 0)], PLAINEST) is None:
        return PLAINEST
    found = _calls_of(shown)
    kinds: tuple[Kind, ...] = ("system", "user", "assistant", *(("calls", "results") if found.calls else ()))
    places = [place for place in _LEADS if place[0] in ("start", *kinds)]
    follows = {
        (place, kind)
        for place in places
        for kind in kinds
        if (kind != "results" or place[0] in ("calls", "results"))
        and _stands(shown, found, (*_LEADS[place], kind, *_TAILS.get(kind, ())))
    }
    last = {place for place in places if _stands(shown, found, (*_LEADS[place], "system"))}
    if any((place, "system") not in follows for place in _SPOKEN):
        # It stands there in the place of another: who only asks whether it is the user sees none that is missing.
        follows -= {(place, kind) for place, kind in follows if kind == "system" and place in _LATER}
        last -= _LATER
    found = replace(found, follows=frozenset(follows), last_system=frozenset(last))
    return replace(found, fillers=(_filler(shown, found, "user"), _filler(shown, found, "assistant")))


def stands(turns: Sequence[Message], text: str) -> bool:
    """Whether each turn's text stands in the rendering, in order; the first system text may stand anywhere."""
    at = 0
    for place, message in enumerate(turns):
        content = message.text.strip()
        found = text.find(content, 0 if place == 0 and message.role == "system" else at)
        if found < 0:
            return False
        if place or message.role != "system":
            at = found + len(content)
    return True


def ordered(messages: Sequence[Message], manners: Manners) -> list[Message]:
    """The conversation in an order that the template renders."""
    turns: list[Message] = []
    for message in _divided(messages, manners):
        _place(turns, message, manners)
    taken = _without_last_systems(turns)
    fits = _at(turns) in manners.last_system
    for message in taken:
        if fits:
            turns.append(message)
        else:
            _place(turns, _as_user(message), manners)
    return turns


def _at(turns: Sequence[Message]) -> Place:
    """The place behind these turns."""
    plain = (turn for turn in reversed(turns) if turn.role in ("user", "assistant") and not turn.tool_calls)
    spoke = next((turn.role for turn in plain), "nobody")
    return (_kind(turns[-1]) if turns else "start"), spoke  # type: ignore[return-value]


def _kind(message: Message) -> Kind:
    if message.role == "tool":
        return "results"
    return "calls" if message.tool_calls else message.role


# -- trying a template -----------------------------------------------------------------------------------------------


def _calls_of(shown: Shown) -> Manners:
    """What it does with calls, by conversations with nothing else in them that is unusual."""
    kinds: tuple[Kind, ...] = ("user", "calls", "results")
    ways = [
        Manners(frozenset(), json_arguments=text, short_ids=short) for text in (False, True) for short in (False, True)
    ]
    found = next((way for way in ways if _stands(shown, way, kinds) and not _shows_python(shown, way, kinds)), None)
    if found is None:
        return Manners(frozenset())
    cut = [_message("calls", 1, arguments="{rawraw"), _message("results", 2)]
    return replace(
        found,
        calls=True,
        text_with_calls=_holds(shown, found, [_message("calls", 1, text="textext"), _message("results", 2)], "textext"),
        several_calls=_stands(shown, found, (*kinds, "results")),
        text_arguments=_holds(shown, found, cut, "rawraw"),
    )


def _shows_python(shown: Shown, manners: Manners, kinds: Sequence[Kind]) -> bool:
    """Whether arguments look as Python writes an object, not as JSON does."""
    return "{'where'" in (shown(list(_conversation(kinds)), manners) or "")


def _message(kind: Kind, place: int, *, text: str | None = None, arguments: str = "", calls: int = 1) -> Message:
    word = f"w{place}w"
    if kind == "calls":
        given = [arguments or f'{{"where": "{word}"}}', *['{"where": "w"}'] * (calls - 1)]
        made = tuple(ToolCall(f"call_{place}_{number}", "probe", one) for number, one in enumerate(given))
        return Message("assistant", text or "", tool_calls=made)
    if kind == "results":
        return Message("tool", word, tool_call_id=f"call_{place - 1}_0")
    assert kind != "start"
    return Message(kind, word if text is None else text)


def _conversation(kinds: Sequence[Kind]) -> Iterator[Message]:
    for place, kind in enumerate(kinds):
        if kind == "calls":
            yield _message(kind, place, calls=kinds[place + 1 :].count("results") or 1)
        elif kind == "results" and kinds[place - 1] == "results":
            yield replace(_message(kind, place), tool_call_id=f"call_{place - 2}_1")
        else:
            yield _message(kind, place)


def _stands(shown: Shown, manners: Manners, kinds: Sequence[Kind]) -> bool:
    """Whether every turn's word is in the rendering once and in order; one system text, at the top, may stand anywhere:
    some models were taught to find it before the last question."""
    text = shown(list(_conversation(kinds)), manners)
    if text is None:
        return False
    words = [f"w{place}w" for place in range(len(kinds))]
    places = [text.find(word) for word in words]
    usual = places[1:] if kinds[0] == "system" else places
    return all(text.count(word) == 1 for word in words) and usual == sorted(usual)


def _holds(shown: Shown, manners: Manners, turns: Sequence[Message], word: str) -> bool:
    text = shown([_message("user", 0), *turns], manners)
    return text is not None and word in text


def _filler(shown: Shown, manners: Manners, role: Literal["user", "assistant"]) -> str:
    for text in _FILLERS:
        turns = [_message("user", 0), _message("assistant", 1, text=text), _message("user", 2)]
        if role == "user":
            turns = [_message("user", 0, text=text), _message("assistant", 1), _message("user", 2)]
        rendered = shown(turns, manners)
        if rendered is not None and "w2w" in rendered:
            return text
    return _FILLERS[0]


# -- arranging a conversation ----------------------------------------------------------------------------------------


def _place(turns: list[Message], message: Message, manners: Manners) -> None:
    """Put a message behind the turns."""
    before: Kind = _kind(turns[-1]) if turns else "start"
    kind = _kind(message)
    if (_at(turns), kind) in manners.follows:
        turns.append(message)
    elif message.role == "system":
        if turns and all(turn.role == "system" for turn in turns):
            turns[-1] = _joined(turns[-1], message)
        else:
            _place(turns, _as_user(message), manners)
    elif before == "system":
        for text in _without_last_systems(turns):
            _place(turns, _as_user(text), manners)
        _place(turns, message, manners)
    elif _joins(before, kind, manners):
        turns[-1] = _joined(turns[-1], message)
    else:
        turns += [*_between(turns, kind, manners), message]


def _joins(before: Kind, kind: Kind, manners: Manners) -> bool:
    if before == "assistant" and kind == "calls":
        return manners.text_with_calls
    return before == kind and kind in ("user", "assistant")


def _joined(first: Message, second: Message) -> Message:
    return Message(
        first.role,
        "\n\n".join(filter(None, (first.text, second.text))),
        "\n\n".join(filter(None, (first.reasoning, second.reasoning))),
        first.tool_calls + second.tool_calls,
    )


def _between(turns: list[Message], kind: Kind, manners: Manners) -> list[Message]:
    """The empty turn behind which this kind may come; none if there is none."""
    user, assistant = manners.fillers
    for filler in (Message("user", user), Message("assistant", assistant)):
        if {(_at(turns), filler.role), (_at([*turns, filler]), kind)} <= manners.follows:
            return [filler]
    return []


def _as_user(message: Message) -> Message:
    return Message("user", message.text)


def _without_last_systems(turns: list[Message]) -> list[Message]:
    """Takes the system texts at the end away, and gives them."""
    taken: list[Message] = []
    while turns and turns[-1].role == "system":
        taken.insert(0, turns.pop())
    return taken


def _divided(messages: Sequence[Message], manners: Manners) -> Iterator[Message]:
    """With a turn for each call, its results behind it, and for text beside calls, where they can't share one."""
    messages = list(messages)
    while messages:
        message = messages.pop(0)
        if not message.tool_calls:
            yield message
            continue
        if message.text and not manners.text_with_calls:
            yield replace(message, tool_calls=())
            message = Message("assistant", "", tool_calls=message.tool_calls)
        if manners.several_calls or len(message.tool_calls) == 1:
            yield message
            continue
        results: list[Message] = []
        while messages and messages[0].role == "tool":
            results.append(messages.pop(0))
        yield from _one_by_one(message, results)


def _one_by_one(message: Message, results: list[Message]) -> Iterator[Message]:
    for place, call in enumerate(message.tool_calls):
        yield replace(message, tool_calls=(call,)) if place == 0 else Message("assistant", "", tool_calls=(call,))
        named = [result for result in results if result.tool_call_id == call.id]
        mine = named or [result for result in results if not result.tool_call_id][:1]
        yield from mine
        results = [result for result in results if all(result is not one for one in mine)]
    yield from results
