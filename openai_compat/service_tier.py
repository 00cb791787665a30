"""OpenAI's `service_tier`: the one field by which a client moves a request's priority. Pure."""

from collections.abc import Mapping

from engines.types.common import Priority
from engines.types.field_reader import Reader

NAME = "service_tier"
BY_KIND = "default"
_TIERS: Mapping[str, Priority | None] = {
    "auto": None,
    BY_KIND: None,
    "flex": "background",
    "priority": "interactive",
}


def priority(fields: Reader, by_kind: Priority) -> Priority:
    """What the client asks for; `by_kind` where it doesn't. Raises `InvalidRequest` for a tier that isn't known."""
    return _TIERS[fields.one_of(NAME, tuple(_TIERS), BY_KIND)] or by_kind


def answered(fields: Reader) -> str:
    """The tier that acts, as OpenAI says it in an answer: "" where none was asked for."""
    tier = fields.one_of(NAME, tuple(_TIERS), "")
    return tier if not tier or _TIERS[tier] else BY_KIND


def described(by_kind: Priority) -> str:
    """For a route's reference."""
    first = "as interactive work" if by_kind == "interactive" else "as background work"
    return (
        f"`auto` and `default`, as if missing: {first}. `flex`: in the background, which yields the device to "
        "interactive work, waits up to 10 s longer for a place, and is paused, a minute at most, where memory is "
        "scarce, the machine hot or the battery low. `priority`: as interactive work"
    )
