"""OpenAI's `service_tier`: a request's priority, and what the answer says of it. Pure."""

from engines.types.common import Priority
from engines.types.field_reader import FieldReader

FIELD = "service_tier"
TIERS = ("auto", "default", "flex", "priority")
WHAT = (
    "`flex` is background work: it waits while interactive requests compute, and while the machine is short of memory, "
    "hot or low on battery; `priority` is interactive; `auto` and `default` are what the route is if the field is "
    "missing: "
)


def priority(fields: FieldReader, usual: Priority) -> Priority:
    """What the request is; `usual` is that of its kind. Raises `InvalidRequest` for a tier that there isn't."""
    match fields.one_of(FIELD, TIERS, "auto"):
        case "flex":
            return "background"
        case "priority":
            return "interactive"
        case _:
            return usual


def tier(fields: FieldReader) -> str:
    """The tier that served it, for the answer; "" where the client named none."""
    named = fields.one_of(FIELD, TIERS, "")
    return "default" if named == "auto" else named
