"""Which pages may read an answer: the CORS protocol of the Fetch standard, and the
headers around it. Pure functions from a policy and request headers to response headers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Headers = list[tuple[str, str]]

#: Seconds a preflight may be reused. Chromium caps it at 7200.
PREFLIGHT_MAX_AGE = 7200

#: What a script may read beyond the safelisted response headers.
EXPOSED = "Accept-Ranges, Content-Encoding, Content-Range, ETag, Location, Repr-Digest"

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_FIELD_NAMES = re.compile(rf"{_TOKEN}(?:[ \t]*,[ \t]*{_TOKEN})*")


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may read.

    :ivar origins: ``"*"``, or exact serialized origins; empty means no other origin.
    :ivar credentials: whether cookies and HTTP authentication may come along; only
        with a list of origins.
    """

    origins: Literal["*"] | frozenset[str]
    credentials: bool = False

    def allows(self, origin: str | None) -> bool:
        return self.origins == "*" or (origin is not None and origin in self.origins)

    @property
    def varies(self) -> bool:
        """Whether the answer depends on the request's origin: then every answer says
        so, those without or with a refused origin too (Fetch, "CORS protocol and HTTP
        caches")."""
        return self.origins != "*" and bool(self.origins)


def response_headers(policy: Policy, origin: str | None) -> Headers:
    """The headers of every answer but a preflight's.

    ``Cross-Origin-Resource-Policy`` lets pages with ``COEP: require-corp`` (threads of
    the wasm backend) use assets; ``Timing-Allow-Origin`` lets them measure.
    """
    if not policy.origins:
        return [("Cross-Origin-Resource-Policy", "same-origin")]
    headers = [("Cross-Origin-Resource-Policy", "cross-origin")]
    if policy.allows(origin):
        allowed = "*" if policy.origins == "*" else str(origin)
        headers += [
            ("Access-Control-Allow-Origin", allowed),
            ("Access-Control-Expose-Headers", EXPOSED),
            ("Timing-Allow-Origin", allowed),
        ]
        if policy.credentials:
            headers.append(("Access-Control-Allow-Credentials", "true"))
    if policy.varies:
        headers.append(("Vary", "Origin"))
    return headers


def preflight_headers(
    policy: Policy,
    origin: str | None,
    requested_headers: str | None,
    methods: str,
) -> Headers:
    """The headers of the answer to an ``OPTIONS`` request.

    The requested header names are echoed, since a page that may read may also add the
    header its own proxy or login wants; a value that is not a list of field names is
    not.

    :param methods: the comma-separated methods the URL allows.
    """
    headers = response_headers(policy, origin)
    if policy.allows(origin):
        headers += [
            ("Access-Control-Allow-Methods", methods),
            ("Access-Control-Max-Age", str(PREFLIGHT_MAX_AGE)),
        ]
        if requested_headers and _FIELD_NAMES.fullmatch(requested_headers.strip()):
            headers.append(("Access-Control-Allow-Headers", requested_headers.strip()))
    return headers
