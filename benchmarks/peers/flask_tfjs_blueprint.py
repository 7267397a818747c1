"""The blueprint of this repository, with nothing but its models configured."""

import os
from pathlib import Path

from flask import Flask

from flask_tfjs import tfjs_bp

MODELS = Path(os.environ["BENCHMARK_MODELS"])

app = Flask(__name__, instance_path=os.environ["BENCHMARK_INSTANCE"])
app.config["TFJS_MODELS"] = {path.name: str(path) for path in MODELS.iterdir()}
app.register_blueprint(tfjs_bp)
