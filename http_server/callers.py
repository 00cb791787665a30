"""Who may ask: the names that clients may call this server by, and the web pages that may use it. Pure.

A page that isn't ours reaches a loopback server in two ways. It sends requests from its own origin, which the browser
states in `Origin`; or its name is made to point here (DNS rebinding), and then `Host` is that foreign name. So the name
in `Host` matters and the port doesn't: a forwarded port (`ssh -L`, containers, editors) is another one than ours.
"""

import ipaddress
import re
from collections.abc import Iterable

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?", re.ASCII)
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#\s*]*|\*)", re.ASCII)
_WEB_PORTS = {"http": ":80", "https": ":443"}


def host_name(value: str) -> tuple[str, int | None] | None:
    """Name and port of a `Host` header, in one spelling: lower case, no dot at the end, IPv6 in brackets, shortened.

    None for what is no host.
    """
    found = _HOST.fullmatch(value)
    if found is None:
        return None
    name, port = found[1].lower().removesuffix("."), int(found[2]) if found[2] else None
    if port is not None and not 0 < port < 65536:
        return None
    if name.startswith("["):
        try:
            name = f"[{ipaddress.IPv6Address(name[1:-1])}]"
        except ValueError:
            return None
    return (name, port) if name else None


def is_loopback(name: str) -> bool:
    """Whether a name as `host_name` gives it means the machine that asks, wherever names are looked up."""
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def host_entry(entry: str) -> tuple[str, int | None]:
    """A name that is configured: `name`, which holds for any port, or `name:port`; IPv6 with or without brackets.

    Raises `ValueError` with what is wrong, for what no client could send as `Host`.
    """
    text = entry.strip()
    try:
        text = f"[{ipaddress.IPv6Address(text)}]"
    except ValueError:
        if not text.isascii():
            text = text.encode("idna").decode()  # as clients send it
    if (found := host_name(text)) is None:
        raise ValueError(f"{entry!r} is no name: give it as mac.local or mac.local:8787, without scheme or wildcard")
    return found


def origin_entry(entry: str) -> tuple[str, ...]:
    """Origins that an entry of the configuration allows, as browsers spell them; a name alone means http and https.

    Raises `ValueError` for what no page could have, and for what every page of the web would.
    """
    text = entry.strip()
    if text == "null":
        return (text,)
    if text == "*":
        raise ValueError("'*' would let any page of the web use this server: name each origin")
    scheme, mark, rest = text.partition("://")
    if not mark:
        return (*origin_entry(f"http://{text}"), *origin_entry(f"https://{text}"))
    scheme, rest = scheme.lower(), rest.removesuffix("/")
    if scheme in _WEB_PORTS:
        if "*" in rest:
            raise ValueError(f"{entry!r} would let any page of the web use this server: name each origin")
        rest = rest.encode("idna").decode().lower().removesuffix(_WEB_PORTS[scheme])
    origin = f"{scheme}://{rest}"
    if _ORIGIN.fullmatch(origin) is None or (scheme in _WEB_PORTS and host_name(rest) is None):
        raise ValueError(f"{entry!r} is no origin: give it as https://app.example, http://localhost:3000 or app://name")
    return (origin,)


class Callers:
    """The decision for one port: loopback names are always right, others and foreign pages as they are configured."""

    def __init__(self, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        """Entries as `host_entry` and `origin_entry` take them."""
        self._hosts = frozenset(map(host_entry, hosts))
        self._origins = frozenset(origin for entry in origins for origin in origin_entry(entry))

    @property
    def has_foreign_pages(self) -> bool:
        """Whether answers depend on the page that asks."""
        return bool(self._origins)

    def knows(self, host: str) -> bool:
        """Whether a `Host` header names this server."""
        found = host_name(host)
        if found is None:
            return False
        name, port = found
        return is_loopback(name) or bool({(name, None), (name, port)} & self._hosts)

    def allows(self, origin: str) -> bool:
        """Whether a page from elsewhere may use this server, and read its answers."""
        scheme, found, _ = origin.partition("://")
        return origin in self._origins or (bool(found) and f"{scheme}://*" in self._origins)

    @staticmethod
    def is_own(origin: str, host: str) -> bool:
        """Whether a page has this server's own origin, as its client spells it; a proxy in front may speak https."""
        return origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")
