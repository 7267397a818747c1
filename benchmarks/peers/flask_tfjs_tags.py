"""The blueprint's application with a template that has its tags."""

from flask import render_template_string
from flask_tfjs_blueprint import app

TEMPLATE = '{{ {"url": tfjs_url(name), "preload": tfjs_preload(name)} | tojson }}'


@app.get("/tags/<name>")
def tags(name: str) -> str:
    return render_template_string(TEMPLATE, name=name)
