"""Every setting is checked when the blueprint is registered."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeApp
from flask import Flask
from models import write_model

from flask_tfjs import ConfigError
from flask_tfjs import create_blueprint
from flask_tfjs import tfjs_bp
from flask_tfjs import tfjs_script
from flask_tfjs.config import Settings


def settings_of(app: Flask, name: str = "tfjs") -> Settings:
    settings = app.extensions["tfjs"][name].settings
    assert isinstance(settings, Settings)
    return settings


@pytest.mark.parametrize(
    ("key", "value", "cure"),
    [
        ("TFJS_MODELS", "{'a': 'x'}", "must be JSON"),
        ("TFJS_MODELS", 5, "give a mapping of names to directories"),
        ("TFJS_MODELS", ["a"], "give a mapping of names to directories"),
        ("TFJS_MODELS", "", "give the path"),
        ("TFJS_MODELS", {"a/b": "x"}, "letters, digits"),
        ("TFJS_MODELS", {"-": "x"}, "the first a letter or digit"),
        ("TFJS_MODELS", {"": "x"}, "letters, digits"),
        ("TFJS_MODELS", {"a" * 129: "x"}, "1 to 128"),
        ("TFJS_MODELS", {1: "x"}, "letters, digits"),
        ("TFJS_MODELS", {"a": None}, "give the path"),
        ("TFJS_MODELS", {"a": ""}, "give the path"),
        ("TFJS_MODELS", {"a": "x\0"}, "give the path"),
        ("TFJS_MODELS", {"a": b"x"}, "give the path"),
        ("TFJS_REGISTRY", "", "give the path"),
        ("TFJS_REGISTRY", 1, "give the path"),
        ("TFJS_LINK_ROOTS", 1, "give a list of directories"),
        ("TFJS_LINK_ROOTS", [None], "give the path"),
        ("TFJS_ALLOW_ORIGINS", None, "give a list of origins"),
        ("TFJS_ALLOW_ORIGINS", ["*", "https://a.example"], "such as"),
        ("TFJS_ALLOW_ORIGINS", ["https://a.example/"], "no slash at the end"),
        ("TFJS_ALLOW_ORIGINS", ["https://A.example"], "lower case"),
        ("TFJS_ALLOW_ORIGINS", ["a.example"], "such as"),
        ("TFJS_ALLOW_ORIGINS", "null", "such as"),
        ("TFJS_ALLOW_ORIGINS", "https://a.example:443", "no usual port"),
        ("TFJS_ALLOW_ORIGINS", "http://localhost:80", "no usual port"),
        ("TFJS_ALLOW_ORIGINS", "https://a.example:99999", "such as"),
        ("TFJS_ALLOW_ORIGINS", "http://bücher.example", "ASCII"),
        ("TFJS_ALLOW_ORIGINS", [7], "such as"),
        ("TFJS_ALLOW_CREDENTIALS", "yes", "give True or False"),
        ("TFJS_ALLOW_CREDENTIALS", True, "name the origins"),
        ("TFJS_ASSETS", 1, "give a list"),
        ("TFJS_ASSETS", ["a/b.txt"], "name of a file beside"),
        ("TFJS_ASSETS", [""], "name of a file beside"),
        ("TFJS_MODEL_MAX_AGE", -1, "0 or more"),
        ("TFJS_MODEL_MAX_AGE", 1.5, "whole seconds"),
        ("TFJS_MODEL_MAX_AGE", True, "whole seconds"),
        ("TFJS_MODEL_MAX_AGE", "60", "whole seconds"),
        ("TFJS_INDEX", "no", "give True or False"),
        ("TFJS_SCRIPT", None, "give the URL"),
        ("TFJS_SCRIPT", "", "give the URL"),
        ("TFJS_SCRIPT", [], "give the URL"),
        ("TFJS_SCRIPT", "https://[bad/tf.js", "give the URL"),
        ("TFJS_SCRIPT", "https://a:b/tf.js", "give the URL"),
        ("TFJS_SCRIPT", "https://a; script-src */tf.js", "give the URL"),
        ("TFJS_SCRIPT", "https://bücher.example/tf.js", "give the URL"),
        ("TFJS_SCRIPT", "javascript:alert(1)", "give the URL"),
        ("TFJS_SCRIPT", ["/tf.js", "md5-x"], "sha384-"),
        ("TFJS_SCRIPT", ["/tf.js", "sha384-eA==", "more"], "give the URL"),
    ],
)
def test_wrong_values_are_refused(
    make_app: MakeApp, key: str, value: Any, cure: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_app(**{key: value})
    assert str(caught.value).startswith(key)
    assert cure in str(caught.value)


def test_defaults(make_app: MakeApp, tmp_path: Path) -> None:
    settings = settings_of(make_app(TFJS_MODELS={}))
    assert settings.models.named == {}
    assert settings.registry == str(tmp_path / "instance" / "tfjs.json")
    assert settings.allow_origins == "*"
    assert not settings.allow_credentials
    assert settings.link_roots == ()
    assert settings.model_max_age == 0
    assert settings.index is None
    assert settings.script.src.startswith("https://")
    assert not (tmp_path / "instance").exists()


def test_models_are_relative_to_the_app(make_app: MakeApp) -> None:
    app = make_app(TFJS_MODELS={"a": "models/a", "b": Path("/srv/b")})
    assert settings_of(app).models.named == {
        "a": str(Path(app.root_path) / "models" / "a"),
        "b": "/srv/b",
    }


def test_a_single_string_is_a_list_of_one(make_app: MakeApp, tmp_path: Path) -> None:
    settings = settings_of(
        make_app(
            TFJS_ALLOW_ORIGINS="https://a.example",
            TFJS_LINK_ROOTS=tmp_path,
            TFJS_ASSETS="notes.txt",
        )
    )
    assert settings.allow_origins == frozenset({"https://a.example"})
    assert settings.link_roots == (str(tmp_path.resolve()),)
    assert settings.assets == ("notes.txt",)


def test_keywords_win_and_turn_the_registry_off(tmp_path: Path) -> None:
    write_model(tmp_path / "mine")
    app = Flask(__name__, instance_path=str(tmp_path))
    app.config.update(TFJS_MODELS={"theirs": "x"}, TFJS_MODEL_MAX_AGE=5)
    app.register_blueprint(create_blueprint(models={"mine": tmp_path / "mine"}))
    settings = settings_of(app)
    assert settings.models.named == {"mine": str(tmp_path / "mine")}
    assert settings.registry is None
    assert settings.model_max_age == 5


def test_a_keyword_that_is_no_setting_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean allow_origins"):
        create_blueprint(allow_origin="*")
    with pytest.raises(ConfigError, match="did you mean models"):
        create_blueprint(TFJS_MODELS={})


def test_two_blueprints_cannot_have_the_same_urls(make_app: MakeApp) -> None:
    app = make_app()
    with pytest.raises(ConfigError, match="give one of them another url_prefix"):
        app.register_blueprint(create_blueprint("more", models={}))


def test_a_key_that_is_no_setting_is_logged(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "flask_tfjs"):
        make_app(TFJS_ALLOWED_ORIGINS="*")
    assert "did you mean TFJS_ALLOW_ORIGINS" in caplog.text


def test_configuration_is_read_once(make_app: MakeApp) -> None:
    app = make_app(TFJS_MODEL_MAX_AGE=60)
    app.config["TFJS_MODEL_MAX_AGE"] = 0
    with app.test_client().get("/models/dense/model.json") as answer:
        assert answer.headers["Cache-Control"] == "max-age=60"


def test_one_folder_of_models(make_app: MakeApp, tmp_path: Path) -> None:
    write_model(tmp_path / "zoo" / "one")
    write_model(tmp_path / "zoo" / "two")
    write_model(tmp_path / "zoo" / ".hidden")
    client = make_app(TFJS_MODELS=tmp_path / "zoo").test_client()
    assert client.get("/models/one/model.json").status_code == 200
    assert client.get("/models/.hidden/model.json").status_code == 404
    assert client.get("/models/three/model.json").status_code == 404
    write_model(tmp_path / "zoo" / "three")
    assert client.get("/models/three/model.json").status_code == 200


@pytest.mark.parametrize("models", ["dense", "dense/model.json"])
def test_a_model_is_not_a_folder_of_models(
    make_app: MakeApp, tmp_path: Path, models: str
) -> None:
    write_model(tmp_path / "dense")
    with pytest.raises(ConfigError, match=r"write TFJS_MODELS = \{'"):
        make_app(TFJS_MODELS=tmp_path / models)


def test_a_folder_name_that_cannot_name_a_model_is_logged(
    make_app: MakeApp, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_model(tmp_path / "zoo" / "my model")
    app = make_app(TFJS_MODELS=tmp_path / "zoo")
    for _ in range(2):
        assert app.test_client().get("/models/x/model.json").status_code == 404
    assert caplog.text.count("'my model' is passed over") == 1


def test_a_missing_folder_of_models_is_no_config_error(
    make_app: MakeApp, tmp_path: Path
) -> None:
    client = make_app(TFJS_MODELS=tmp_path / "zoo").test_client()
    with client.get("/models/one/model.json") as answer:
        assert answer.status_code == 500
        assert "the folder of models cannot be read" in answer.get_json()["error"]
    write_model(tmp_path / "zoo" / "one")
    assert client.get("/models/one/model.json").status_code == 200


@pytest.mark.parametrize(
    ("script", "tag"),
    [
        ("/static/tf.js", '<script src="/static/tf.js"></script>'),
        (
            ["https://cdn.example/tf.js", "sha384-YQ=="],
            '<script src="https://cdn.example/tf.js" integrity="sha384-YQ==" '
            'crossorigin="anonymous"></script>',
        ),
        ('/"><b>', '<script src="/&#34;&gt;&lt;b&gt;"></script>'),
    ],
)
def test_the_script_tag(make_app: MakeApp, script: Any, tag: str) -> None:
    app = make_app(TFJS_SCRIPT=script)
    with app.app_context():
        assert tfjs_script() == tag
        assert app.jinja_env.from_string("{{ tfjs_script() }}").render() == tag


def test_the_script_of_several_blueprints_must_be_named(make_app: MakeApp) -> None:
    app = make_app(TFJS_SCRIPT="/one.js")
    app.register_blueprint(create_blueprint("more", url_prefix="/m", script="/two.js"))
    with app.app_context():
        with pytest.raises(ConfigError, match="tfjs, more"):
            tfjs_script()
        with pytest.raises(ConfigError, match="'none'"):
            tfjs_script("none")
        assert "/two.js" in tfjs_script("more")


def test_an_app_without_the_blueprint_says_how_to_add_it() -> None:
    with (
        Flask(__name__).app_context(),
        pytest.raises(ConfigError, match=r"register_blueprint\(tfjs_bp\)"),
    ):
        tfjs_script()


def test_the_index_is_shown_in_debug_only_unless_told(make_app: MakeApp) -> None:
    app = make_app()
    assert app.test_client().get("/models/").status_code == 404
    app.debug = True
    with app.test_client().get("/models/") as answer:
        assert answer.get_json() == {
            "models": [
                {
                    "name": "dense",
                    "state": "ok",
                    "bytes": 32,
                    "entries": [{"path": "dense/model.json", "kind": "layers-model"}],
                }
            ]
        }
    shown = make_app(TFJS_INDEX=True).test_client()
    assert shown.get("/models").status_code == 200
    assert shown.get("/models//").status_code == 404


def test_the_blueprint_can_be_registered_on_any_number_of_apps(tmp_path: Path) -> None:
    for _ in range(2):
        Flask(__name__, instance_path=str(tmp_path)).register_blueprint(tfjs_bp)
