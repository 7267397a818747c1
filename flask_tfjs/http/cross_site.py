"""Whether a page of another site may have made a request that writes, without its
user's will. A pure function of request headers.

A browser sends a form's POST to any site, with the user's cookies and from the user's
network, and asks nobody first. It says truly where such a request comes from: in
``Sec-Fetch-Site`` (Fetch Metadata), older browsers in ``Origin`` alone.
"""

from __future__ import annotations

from types import MappingProxyType

_OWN = ("same-origin", "none")

_USUAL_PORTS = MappingProxyType({"http": ":80", "https": ":443"})


def is_forged(
    *,
    origin: str | None,
    fetch_site: str | None,
    host: str | None,
    authorization: str | None,
    listed: frozenset[str],
) -> bool:
    """Whether to refuse a POST or PUT with these request headers.

    :param fetch_site: the ``Sec-Fetch-Site`` value.
    :param listed: the origins that are allowed by name.
    """
    if bearer_of(authorization):
        return False  # no browser adds it by itself
    if fetch_site in _OWN or origin in listed:
        return False
    if fetch_site is not None:
        return True
    # Without both it is no browser, so it has no user to be misused.
    return origin is not None and not _is_origin_of(origin, host)


def bearer_of(authorization: str | None) -> str:
    """The token of ``Authorization: Bearer …``; ``""`` where there is none."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip(" ") if scheme.lower() == "bearer" else ""


def _is_origin_of(origin: str, host: str | None) -> bool:
    """Whether *origin* is that of the server asked for as *host*. Its scheme is not
    known behind a proxy that ends TLS, so that of *origin* is believed."""
    scheme, _, authority = origin.lower().partition("://")
    port = _USUAL_PORTS.get(scheme)
    if port is None or not host:
        return False
    return authority.removesuffix(port) == host.lower().removesuffix(port)
