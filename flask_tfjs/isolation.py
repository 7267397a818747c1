"""Pages that may share memory between threads, as the threaded wasm backend does."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any
from typing import TypeVar
from typing import cast

from flask import Flask
from flask import Response
from flask import after_this_request
from flask import request
from flask import request_started

_View = TypeVar("_View", bound=Callable[..., Any])

# On a view that was decorated: what the decorator made of it.
_ISOLATED = "_flask_tfjs_isolated"


def cross_origin_isolated(view: _View) -> _View:
    """Make the page that *view* answers with cross-origin isolated.

    It gets ``Cross-Origin-Opener-Policy: same-origin`` and
    ``Cross-Origin-Embedder-Policy: require-corp`` (HTML standard, "Cross-origin opener
    policies" and "Embedder policies"), whatever *view* returns or raises; a
    ``credentialless`` of its own stays, which isolates as well. Browsers then
    let it use ``SharedArrayBuffer``. Below or above ``@app.route``, it is the same.

    :raises TypeError: *view* is a class; its views get the decorator in ``decorators``.
    """
    if isinstance(view, type):
        raise TypeError(
            f"cross_origin_isolated is for functions; in the class {view.__name__} "
            "write decorators = [cross_origin_isolated]"
        )
    if inspect.iscoroutinefunction(view):

        @wraps(view)
        async def isolated(*args: Any, **kwargs: Any) -> Any:
            after_this_request(_isolate)
            return await view(*args, **kwargs)

    else:

        @wraps(view)
        def isolated(*args: Any, **kwargs: Any) -> Any:
            after_this_request(_isolate)
            return view(*args, **kwargs)

    # Whoever writes it above @app.route has given the bare view to the app before.
    with contextlib.suppress(AttributeError):
        setattr(view, _ISOLATED, isolated)
        request_started.connect(_isolate_bare)
    return cast(_View, isolated)


def _isolate(response: Response) -> Response:
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    if response.headers.get("Cross-Origin-Embedder-Policy") != "credentialless":
        response.headers["Cross-Origin-Embedder-Policy"] = "require-corp"
    return response


def _isolate_bare(app: Flask, **extra: Any) -> None:
    """Isolate the answer of a view that the app has in place of its decorated self."""
    view = app.view_functions.get(request.endpoint or "")
    isolated = getattr(view, _ISOLATED, None)
    # Where the app has both, each of them is as it was meant.
    if isolated is not None and not any(
        _is_made_of(other, isolated) for other in app.view_functions.values()
    ):
        after_this_request(_isolate)


def _is_made_of(view: Any, isolated: Any) -> bool:
    inner = inspect.unwrap(view, stop=lambda function: function is isolated)
    return inner is isolated
