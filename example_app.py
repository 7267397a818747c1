from flask import Flask
from flask import render_template

from flask_tfjs import tfjs_bp

app = Flask(
    __name__,
    template_folder="examples/templates",
    static_folder="examples/static",
)
app.config["TFJS_MODELS"] = {"digits": "examples/digits"}
app.config.from_prefixed_env()
app.register_blueprint(tfjs_bp)


@app.get("/")
def index() -> str:
    return render_template("index.html")
