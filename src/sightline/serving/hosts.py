"""Which names a server answers to, and which pages may ask it: the defence against rebound names and against other sites' pages.

A page of another site can make a browser send requests to 127.0.0.1, and a name can be made to point there after its page was loaded.
The first gives itself away by Origin and Sec-Fetch-Site (W3C, "Fetch Metadata Request Headers"), the second by Host, which still has the
name.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sightline.errors import ConfigError
from sightline.serving.answer import Answer

LOOPBACK = ("localhost", "127.0.0.1", "::1")
EVERYWHERE = ("", "0.0.0.0", "::")
PORTS = {"http": 80, "https": 443}
# Methods that neither change nor compute anything.
READING = ("GET", "HEAD")

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,255})(?::([0-9]{1,5}))?")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address to listen at; a name other than localhost may be anything."""
    try:
        return _address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def parted(authority: str) -> tuple[str, int | None] | None:
    """``name[:port]`` in small letters, an IPv6 address in its shortest form; None where it is neither a name nor an address."""
    found = _AUTHORITY.fullmatch(authority.lower())
    if found is None:
        return None
    name, port = found[1], int(found[2]) if found[2] else None
    if name.startswith("["):
        try:
            name = str(_address(name))
        except ValueError:
            return None
    return name, port


@dataclass(frozen=True)
class Hosts:
    """The names that a server answers to.

    names       with the server's own port
    others      given by whoever starts it, with a port, or with None for any
    """

    names: frozenset[str]
    others: frozenset[tuple[str, int | None]]

    @classmethod
    def of(cls, host: str, allowed: str | None) -> Hosts:
        """From the address to listen at and the names given, with commas between. Raises ConfigError for what is no name."""
        own = {*LOOPBACK} if host in EVERYWHERE else {*LOOPBACK, (parted(bracketed(host)) or (host.lower(), None))[0]}
        given = {name.strip(): parted(bracketed(name.strip())) for name in (allowed or "").split(",") if name.strip()}
        if wrong := [name for name, host in given.items() if host is None]:
            raise ConfigError([f"allow_host: {name!r} is not a name or an address, with :PORT or without." for name in wrong])
        return cls(frozenset(own), frozenset(host for host in given.values() if host))

    def problem(self, given: Sequence[str], server: tuple[str, int | None] | None, scheme: str) -> Answer | None:
        """Why the Host headers of a request that reached this end (address, port) of the connection are not answered to, or None."""
        if len(given) != 1 or (host := parted(given[0])) is None:
            return Answer(400, "The request needs one Host header with a name or an address.")
        name, port = host
        address, own_port = server or ("", None)
        same_port = own_port is None or (port or PORTS.get(scheme)) == own_port
        if same_port and (name in self.names or (address and parted(bracketed(address)) == (name, None))):
            return None
        if {(name, port), (name, None)} & self.others:
            return None
        return Answer(403, f"This server does not answer to the Host {given[0].lower()!r}; start it with --allow-host to change that.")


def cross_site(method: str, headers: Mapping[str, Sequence[str]]) -> Answer | None:
    """Why a request that a page of another site seems to have sent is refused, or None. A link from elsewhere to a page is let through."""
    refusal = Answer(403, "Requests from pages of other sites are refused.")
    origins, sites = headers.get("origin", ()), headers.get("sec-fetch-site", ())
    if len(origins) > 1 or len(sites) > 1:
        return refusal
    if origins and not _same_origin(origins[0], headers["host"][0]):
        return refusal
    if not sites or sites[0].lower() in ("same-origin", "none"):
        return None
    link = headers.get("sec-fetch-mode") == ["navigate"] and headers.get("sec-fetch-dest") == ["document"]
    return None if link and method in READING and not origins else refusal


def bracketed(host: str) -> str:
    """An IPv6 address as it stands in addresses of the web; anything else as it is."""
    try:
        address = _address(host)
    except ValueError:
        return host
    return f"[{address}]" if address.version == 6 else str(address)


def _same_origin(origin: str, host: str) -> bool:
    """Whether an Origin has the name and port of a Host. The scheme is not compared: a proxy before this server may speak TLS."""
    scheme, _, authority = origin.lower().partition("://")
    theirs, ours = parted(authority), parted(host)
    if scheme not in PORTS or theirs is None or ours is None:
        return False
    usual = PORTS[scheme]
    return (theirs[0], theirs[1] or usual) == (ours[0], ours[1] or usual)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address, in brackets or not; one of IPv4 that a socket for both shows as IPv6 as the IPv4 address it is."""
    address = ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    return getattr(address, "ipv4_mapped", None) or address
