"""WhiteNoise around an application that knows nothing but 404."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from whitenoise import WhiteNoise  # type: ignore[import-untyped]  # it ships no types

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse
    from _typeshed.wsgi import WSGIEnvironment

MODELS = os.environ["BENCHMARK_MODELS"]


def nothing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("404 Not Found", [("Content-Length", "0")])
    return []


# By default a browser may reuse a file for a minute without asking, and a second visit
# right after the first would tell nothing about one on another day.
app = WhiteNoise(nothing, root=MODELS, prefix="models/", max_age=0)
