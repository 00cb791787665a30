"""Which requests compute beside interactive ones and leave the device to them. Pure."""

from collections.abc import Collection

from engines.types.common import Capability

INTERACTIVE: frozenset[Capability] = frozenset({"chat"})
PATIENT: frozenset[Capability] = frozenset({"transcription", "alignment"})


def are_taken(capability: Capability | None, at_work: Collection[Capability | None]) -> bool:
    """Whether a runner takes turns, by what it does, and by what all runners do that have requests in work."""
    others = INTERACTIVE if capability in PATIENT else PATIENT if capability in INTERACTIVE else frozenset()
    return not others.isdisjoint(at_work)
