"""Which model is loaded or unloaded, and which request starts or is refused: decided from plain state and a `now`.

Pure: no clock, socket, log or process. The supervisor calls an event function when something happened, then `decide`,
`apply`s every effect and carries it out. Memory is counted in leases: the leases of all residents, those that are being
loaded or unloaded included, never exceed the budget.
"""

from engines.pool.decisions import decide, left_alone, never_fits
from engines.pool.state import (
    Effect,
    Fault,
    Job,
    Limits,
    Load,
    Refuse,
    Resident,
    Resize,
    Spec,
    Start,
    State,
    Unload,
    WakeAt,
    apply,
    arrive,
    ask_unload,
    died,
    finished,
    load_failed,
    loaded,
    register,
    requeue,
    set_budget,
    unloaded,
)

__all__ = [
    "Effect",
    "Fault",
    "Job",
    "Limits",
    "Load",
    "Refuse",
    "Resident",
    "Resize",
    "Spec",
    "Start",
    "State",
    "Unload",
    "WakeAt",
    "apply",
    "arrive",
    "ask_unload",
    "decide",
    "died",
    "finished",
    "left_alone",
    "load_failed",
    "loaded",
    "never_fits",
    "register",
    "requeue",
    "set_budget",
    "unloaded",
]
