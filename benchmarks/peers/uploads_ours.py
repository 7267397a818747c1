"""The blueprint of this repository, which a model may be saved to."""

from __future__ import annotations

import os

from flask import Flask

from flask_tfjs import allow_all
from flask_tfjs import tfjs_bp

app = Flask(__name__, instance_path=os.environ["BENCHMARK_INSTANCE"])
app.config.update(
    TFJS_MODELS={"small": os.path.join(os.environ["BENCHMARK_MODELS"], "small")},
    TFJS_UPLOADS=["large"],
    TFJS_AUTHORIZE_PUBLISH=allow_all,
    # Each upload takes the place of the one before.
    TFJS_KEEP_VERSIONS=1,
    TFJS_GRACE=0,
)
app.register_blueprint(tfjs_bp)


@app.get("/pid")
def pid() -> str:
    return str(os.getpid())
