"""`mlx-local config`: every setting in effect, and where it comes from."""

from typing import TextIO

import msgspec

from mlx_local_inference.settings import SECRETS, Resolved


def run(resolved: Resolved, out: TextIO, as_json: bool) -> None:
    """Prints one line a setting, or one JSON object `{name: {"value", "origin"}}`; of secrets only how many."""
    rows = {name: (_shown(resolved, name), origin) for name, origin in resolved.origins.items()}
    if as_json:
        document = {name: {"value": value, "origin": origin} for name, (value, origin) in rows.items()}
        out.write(msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n")
        return
    texts = {name: msgspec.json.encode(value).decode() for name, (value, _) in rows.items()}
    wide = max(map(len, rows))
    for name, (_, origin) in rows.items():
        out.write(f"{name:<{wide}} = {texts[name]}  ({origin})\n")


def _shown(resolved: Resolved, name: str) -> object:
    value = getattr(resolved.settings, name)
    if name in SECRETS and value:
        return f"*** ({len(value)})"
    return value
