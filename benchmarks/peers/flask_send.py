"""What a Flask application does by hand: ``send_from_directory`` and flask-cors."""

import os

from flask import Flask
from flask import Response
from flask import send_from_directory
from flask_cors import CORS

MODELS = os.environ["BENCHMARK_MODELS"]

app = Flask(__name__)
CORS(app)


@app.get("/models/<path:name>")
def model_file(name: str) -> Response:
    return send_from_directory(MODELS, name)
