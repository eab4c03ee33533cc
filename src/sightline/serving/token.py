"""The token that requests must show: where it comes from, how it is compared, and the cookie that stands for it in a browser.

Browsers send cookies to every port of a host, so the cookie holds a digest of the token rather than the token, and has the port in its
name.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, urlencode

from sightline.errors import ConfigError
from sightline.serving.hosts import bracketed, is_loopback

VARIABLE = "SIGHTLINE_TOKEN"
LEAST_LENGTH = 16
# Probes have no token, and learn no more than that the server is up. The page itself is the same for everyone, and asks for the token.
OPEN_PATHS, OPEN_FOLDER = ("/healthz", "/readyz", "/"), "/page/"

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")


def settled_token(host: str, given: str | None, environment: Mapping[str, str]) -> str | None:
    """The token of a server that listens at ``host``: the one given, SIGHTLINE_TOKEN, or one made up where other machines can reach it.

    Raises ConfigError for a token that is too short to be worth anything, or that no header can hold.
    """
    token = given if given is not None else environment.get(VARIABLE)
    if token is None:
        return None if is_loopback(host) else secrets.token_urlsafe(24)
    source = "--token" if given is not None else VARIABLE
    if len(token) < LEAST_LENGTH or not _TOKEN.fullmatch(token):
        what = f"{source} must be at least {LEAST_LENGTH} letters, digits and signs of ._~+/=-; leave it out to have one made."
        raise ConfigError([what])
    return token


def page_address(host: str, port: int, token: str | None) -> str:
    """The address to open in a browser, which has the token in it where there is one."""
    name = bracketed("127.0.0.1" if host in ("", "0.0.0.0") else "::1" if host == "::" else host)
    return f"http://{name}:{port}/" + (f"?{urlencode({'token': token})}" if token else "")


def needs_none(path: str) -> bool:
    """Whether what is at a path may be read by everyone."""
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDER)


def shows_token(headers: Mapping[str, Sequence[str]], token: str, port: int | None) -> bool:
    """Whether a request's headers have the token, as a bearer's or as the cookie; contradictory headers have none."""
    given = headers.get("authorization", ())
    if given:
        scheme, _, shown = given[0].partition(" ")
        return len(given) == 1 and scheme.lower() == "bearer" and same(shown.strip(), token)
    pairs = (pair.strip().partition("=") for line in headers.get("cookie", ()) for pair in line.split(";"))
    return any(name == cookie_name(port) and same(value, digest(token)) for name, _, value in pairs)


def same(shown: str, token: str) -> bool:
    """Compares in a time that tells nothing of the token, not even its length."""
    return hmac.compare_digest(hashlib.sha256(shown.encode()).digest(), hashlib.sha256(token.encode()).digest())


def digest(token: str) -> str:
    return hmac.new(token.encode(), b"sightline page", hashlib.sha256).hexdigest()


def cookie_name(port: int | None) -> str:
    return f"sightline-{port or 0}"


def cookie(token: str, port: int | None, scheme: str) -> str:
    """The Set-Cookie line: for as long as the browser is open, out of reach of scripts, and never sent along from other sites."""
    secure = "; Secure" if scheme == "https" else ""
    return f"{cookie_name(port)}={digest(token)}; Path=/; HttpOnly; SameSite=Strict{secure}"


def without_token(query: bytes) -> tuple[bytes, list[str]]:
    """A query string without its tokens, so that no log has them, and those tokens."""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    shown = [value for name, value in pairs if name == "token"]
    if not shown:
        return query, []
    return urlencode([(name, value) for name, value in pairs if name != "token"]).encode(), shown
