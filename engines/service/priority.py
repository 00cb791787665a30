"""How runners share the device, by the priorities of the requests in work at each. Pure."""

from collections.abc import Collection, Mapping

import msgspec

from engines.types.common import Priority


class Share(msgspec.Struct, frozen=True):
    """Of one runner: whether its steps are taken in turns with others', and whether it yields to those that don't."""

    in_turns: bool = False
    yields: bool = False


def shares(at_work: Mapping[str, Collection[Priority]]) -> dict[str, Share]:
    """By model, from the priorities of its requests in work; models without any are left out.

    Turns are taken where a runner has interactive work and another one has work at all. A runner with nothing but
    background work then yields. Where all work is in the background, nobody waits for a step, and all compute at once.
    """
    busy = {model: "interactive" not in priorities for model, priorities in at_work.items() if priorities}
    in_turns = len(busy) > 1 and not all(busy.values())
    return {model: Share(in_turns, in_turns and yields) for model, yields in busy.items()}
