"""What headers tell beside an answer, harmless for any client: what had no effect or another one, what is missing."""

from collections.abc import Sequence
from urllib.parse import quote

from starlette.requests import Request

from engines.types.common import Adjusted

LONGEST_TOLD = 2000  # clients refuse headers of many kilobytes
_SENTENCE = " !\"#$&'()*+,-./:;<=>?@[]_{|}~"  # what stays as it is; "%" doesn't, so that the header can be read back


def trace_of(request: Request) -> str:
    """The request's id, which `Boundary` gave it."""
    return str(request.scope["state"]["trace"])


def tenant_of(request: Request) -> str:
    """Whose request it is, as `Gate` told by its key; "" where there are no keys."""
    return str(request.scope["state"].get("tenant", ""))


def ignored(names: Sequence[str]) -> dict[str, str]:
    """`X-Ignored-Fields`, where there are any; what is beyond a header's length is counted."""
    return {"X-Ignored-Fields": _joined(names, ", ", "?")} if names else {}


def incomplete(sentences: Sequence[str]) -> dict[str, str]:
    """`X-Incomplete`, where something is missing; what isn't plain ASCII is percent-encoded UTF-8."""
    return {"X-Incomplete": _joined(sentences, " ", _SENTENCE)} if sentences else {}


def audio_track(track: int, tracks: int) -> dict[str, str]:
    """`X-Audio-Track`, where a file has several: the number of the one that was heard, and of how many."""
    return {"X-Audio-Track": f"{track}/{tracks}"} if tracks > 1 else {}


def adjusted(fields: Sequence[Adjusted]) -> dict[str, str]:
    """`X-Adjusted-Fields`, where a field acts otherwise than it was given: each with what acts instead."""
    told = [f"{one.field}: {one.how}" for one in fields]
    return {"X-Adjusted-Fields": _joined(told, "; ", _SENTENCE)} if told else {}


def _joined(texts: Sequence[str], between: str, safe: str) -> str:
    shown: list[str] = []
    left = LONGEST_TOLD
    for text in texts:
        quoted = quote(text, safe=safe)
        left -= len(quoted) + len(between)
        if left < 0:
            return between.join([*shown, f"... and {len(texts) - len(shown)} more"])
        shown.append(quoted)
    return between.join(shown)
