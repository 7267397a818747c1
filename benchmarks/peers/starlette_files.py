"""Starlette's ``StaticFiles`` behind its ``CORSMiddleware``."""

import os

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

MODELS = os.environ["BENCHMARK_MODELS"]

app = Starlette(
    routes=[Mount("/models", StaticFiles(directory=MODELS))],
    middleware=[Middleware(CORSMiddleware, allow_origins=["*"])],
)
