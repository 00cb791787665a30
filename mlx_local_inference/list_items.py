"""What each item of a setting that is a list must be, whichever source it comes from. Pure.

An item that can never have an effect (a name that no client could send) or has another one than is meant (an empty
key, which everybody has) is refused at the start.
"""

from collections.abc import Callable, Mapping
from typing import Any

from http_server.callers import host_entry, origin_entry


def check_items(name: str, items: Any) -> Any:
    """The items of the setting `name`, without blanks around them. Raises `ValueError`, which never shows a secret."""
    check = CHECKS.get(name)
    if isinstance(items, dict):
        pairs = {_named(key): _named(value) for key, value in items.items()}
        return pairs
    found = tuple(_named(item) for item in items)
    if check is not None:
        for item in found:
            check(item)
    return found


def _named(item: str) -> str:
    if not item.strip():
        raise ValueError("expected no empty item")
    return item.strip()


def _key(key: str) -> None:
    if not key.isprintable():
        raise ValueError("expected keys without control characters, which no header can carry")


CHECKS: Mapping[str, Callable[[str], object]] = {
    "api_keys": _key,
    "allowed_hosts": host_entry,
    "allowed_origins": origin_entry,
}
