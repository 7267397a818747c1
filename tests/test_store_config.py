"""The settings of the store, and the clashes between what is registered and what is
published."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from models import write_model
from publishing import NAME
from publishing import local_store
from publishing import new_app
from publishing import put
from publishing import put_generation
from publishing import state_of
from publishing import store_of
from publishing import write_generation

from flask_tfjs import ConfigError
from flask_tfjs import allow_all
from flask_tfjs import create_blueprint
from flask_tfjs.cli import tfjs
from flask_tfjs.config import Settings


def settings_of(app: Flask) -> Settings:
    return state_of(app).settings


def test_defaults(tmp_path: Path) -> None:
    settings = settings_of(new_app(tmp_path))
    assert settings.store == str(tmp_path / "instance" / "tfjs-models")
    assert settings.uploads == frozenset()
    assert settings.authorize_publish is settings.authorize_read is None
    assert settings.max_upload == 512 * 1024 * 1024
    assert (settings.keep_versions, settings.grace) == (5, 86400)
    assert not (tmp_path / "instance").exists()


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [
        ("TFJS_STORE", None, None),
        ("TFJS_STORE", "/srv/models", "/srv/models"),
        ("TFJS_STORE", Path("/srv/models"), "/srv/models"),
        ("TFJS_KEEP_VERSIONS", 1, 1),
        ("TFJS_KEEP_VERSIONS", 10**6, 10**6),
        ("TFJS_GRACE", 0, 0),
        ("TFJS_GRACE", 3600, 3600),
        ("TFJS_MAX_UPLOAD", 1, 1),
        ("TFJS_UPLOADS", [], frozenset()),
        ("TFJS_AUTHORIZE_READ", allow_all, allow_all),
        ("TFJS_AUTHORIZE_PUBLISH", allow_all, allow_all),
    ],
)
def test_values(tmp_path: Path, key: str, value: Any, read: Any) -> None:
    settings = settings_of(new_app(tmp_path, **{key: value}))
    assert getattr(settings, key.removeprefix("TFJS_").lower()) == read


def test_a_relative_store_lies_in_the_instance_folder(tmp_path: Path) -> None:
    app = new_app(tmp_path, TFJS_STORE="published")
    put_generation(app, tmp_path, 1)
    assert (tmp_path / "instance" / "published" / NAME / "model.json").exists()


@pytest.mark.parametrize(
    ("key", "value", "cure"),
    [
        ("TFJS_STORE", "", "give the path"),
        ("TFJS_STORE", 7, "give the path"),
        ("TFJS_STORE", b"x", "give the path"),
        ("TFJS_STORE", False, "give the path"),
        ("TFJS_STORE", "s3://bucket/prefix", "path of a directory"),
        ("TFJS_KEEP_VERSIONS", 0, "1 or more"),
        ("TFJS_KEEP_VERSIONS", -1, "1 or more"),
        ("TFJS_KEEP_VERSIONS", True, "1 or more"),
        ("TFJS_KEEP_VERSIONS", "5", "whole number"),
        ("TFJS_KEEP_VERSIONS", 2.5, "whole number"),
        ("TFJS_KEEP_VERSIONS", None, "whole number"),
        ("TFJS_GRACE", -1, "0 or more"),
        ("TFJS_GRACE", "1d", "whole seconds"),
        ("TFJS_GRACE", False, "whole seconds"),
        ("TFJS_GRACE", None, "whole seconds"),
        ("TFJS_MAX_UPLOAD", 0, "1 or more"),
        ("TFJS_MAX_UPLOAD", "512M", "whole number"),
        ("TFJS_UPLOADS", 7, "names of models"),
        ("TFJS_UPLOADS", ["*", "a"], "letters, digits"),
        ("TFJS_UPLOADS", ["a/b"], "letters, digits"),
        ("TFJS_UPLOADS", [None], "letters, digits"),
        ("TFJS_AUTHORIZE_PUBLISH", "secret", "bearer_token"),
        ("TFJS_AUTHORIZE_READ", True, "a callable"),
    ],
)
def test_wrong_values(tmp_path: Path, key: str, value: Any, cure: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key} .*{cure}"):
        new_app(tmp_path, **{key: value})


@pytest.mark.parametrize("uploads", ["*", ["*"], "gesture", ["gesture"], ("gesture",)])
def test_uploads(tmp_path: Path, uploads: Any) -> None:
    app = new_app(tmp_path, TFJS_UPLOADS=uploads, TFJS_AUTHORIZE_PUBLISH=allow_all)
    settings = settings_of(app)
    assert settings.may_be_saved("gesture")
    assert settings.may_be_saved("other") == ("*" in uploads)


def test_uploads_need_somebody_who_decides(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs TFJS_AUTHORIZE_PUBLISH.*bearer_token"):
        new_app(tmp_path, TFJS_UPLOADS=[NAME])


def test_uploads_need_a_store(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="TFJS_UPLOADS needs TFJS_STORE"):
        new_app(
            tmp_path,
            TFJS_UPLOADS=[NAME],
            TFJS_AUTHORIZE_PUBLISH=allow_all,
            TFJS_STORE=None,
        )


def test_a_blueprint_with_models_of_its_own_has_no_store(tmp_path: Path) -> None:
    app = Flask("host", instance_path=str(tmp_path))
    app.config["TFJS_STORE"] = "from-config"
    app.config["TFJS_UPLOADS"] = "*"
    app.register_blueprint(create_blueprint(models={}))
    app.register_blueprint(create_blueprint("b", url_prefix="/b", models={}, store="b"))
    states = app.extensions["tfjs"]
    assert states["tfjs"].settings.store is states["tfjs"].catalogue.store is None
    assert states["b"].settings.store == str(tmp_path / "b")
    assert states["b"].settings.uploads == frozenset()


def test_without_a_store_nothing_published_is_served(tmp_path: Path) -> None:
    put_generation(new_app(tmp_path), tmp_path, 1)
    app = new_app(tmp_path, TFJS_STORE=None)
    with app.test_client().get(f"/models/{NAME}/model.json") as r:
        assert r.status_code == 404


# A name is registered or published, never both


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    return write_model(tmp_path / "zoo" / NAME)


@pytest.mark.parametrize("how", ["mapping", "folder"])
def test_a_published_name_is_not_configured(
    tmp_path: Path, dense: Path, how: str
) -> None:
    put_generation(new_app(tmp_path), tmp_path, 1)
    models = {NAME: dense} if how == "mapping" else dense.parent
    with pytest.raises(ConfigError) as error:
        new_app(tmp_path, TFJS_MODELS=models)
    assert f"{NAME!r} is in TFJS_MODELS, and published" in str(error.value)
    assert f"flask tfjs publish {NAME} {dense}" in str(error.value)


@pytest.mark.parametrize("how", ["mapping", "folder"])
def test_a_name_for_uploads_is_not_configured(
    tmp_path: Path, dense: Path, how: str
) -> None:
    models = {NAME: dense} if how == "mapping" else dense.parent
    config = {"TFJS_MODELS": models, "TFJS_AUTHORIZE_PUBLISH": allow_all}
    with pytest.raises(ConfigError, match="published or in TFJS_UPLOADS"):
        new_app(tmp_path, TFJS_UPLOADS=[NAME], **config)
    # Any name that is not registered is fine.
    new_app(tmp_path, TFJS_UPLOADS="*", **config)
    new_app(tmp_path, TFJS_UPLOADS=["another"], **config)


def test_an_unpublished_name_is_free(tmp_path: Path, dense: Path) -> None:
    app = new_app(tmp_path)
    put_generation(app, tmp_path, 1)
    assert run(app, "unpublish", NAME).exit_code == 0
    app = new_app(tmp_path, TFJS_MODELS={NAME: dense})
    with app.test_client().get(f"/models/{NAME}/model.json") as r:
        assert r.status_code == 200


def run(app: Flask, *arguments: Any) -> Result:
    runner = app.test_cli_runner()
    vars(runner)["mix_stderr"] = False  # click 8.1 mixes unless told not to
    return runner.invoke(tfjs, [str(a) for a in arguments])


def test_register_refuses_a_published_name(tmp_path: Path, dense: Path) -> None:
    app = new_app(tmp_path)
    put_generation(app, tmp_path, 1)
    for force in ([], ["--force"]):
        result = run(app, "register", NAME, dense, *force)
        assert result.exit_code == 1
        assert f"{NAME!r} is published" in result.stderr
        assert f"flask tfjs publish {NAME} {dense}" in result.stderr
    assert not (tmp_path / "instance" / "tfjs.json").exists()


def test_publish_refuses_a_registered_name(tmp_path: Path, dense: Path) -> None:
    app = new_app(tmp_path)
    assert run(app, "register", NAME, dense).exit_code == 0
    result = run(app, "publish", NAME, dense)
    assert result.exit_code == 1
    assert f"flask tfjs unregister {NAME}" in result.stderr
    assert not store_of(tmp_path).exists()
    assert run(app, "unregister", NAME).exit_code == 0
    assert run(app, "publish", NAME, dense).exit_code == 0


# One directory, one rule


def nested(tmp_path: Path, where: str) -> dict[str, Any]:
    """Settings of which the store and a registered directory lie one in the other."""
    zoo = tmp_path / "zoo"
    if where == "store inside":
        return {"TFJS_MODELS": {"registered": zoo}, "TFJS_STORE": zoo / "published"}
    if where == "store far inside":
        return {"TFJS_MODELS": {"registered": zoo}, "TFJS_STORE": zoo / "a" / "b"}
    if where == "the same":
        return {"TFJS_MODELS": {"registered": zoo}, "TFJS_STORE": zoo}
    if where == "model inside":
        return {"TFJS_MODELS": {"registered": zoo / "m"}, "TFJS_STORE": zoo}
    if where == "through a link":
        (tmp_path / "link").symlink_to(zoo, target_is_directory=True)
        return {
            "TFJS_MODELS": {"registered": zoo},
            "TFJS_STORE": tmp_path / "link" / "p",
        }
    assert where == "folder of models"
    return {"TFJS_MODELS": zoo, "TFJS_STORE": zoo / "m" / "published"}


NESTINGS = [
    *("store inside", "store far inside", "the same", "model inside"),
    *("through a link", "folder of models"),
]


@pytest.mark.parametrize("where", NESTINGS)
def test_a_store_that_is_there_lies_in_no_model(tmp_path: Path, where: str) -> None:
    write_model(tmp_path / "zoo" / "m")
    config = nested(tmp_path, where)
    os.makedirs(config["TFJS_STORE"], exist_ok=True)
    with pytest.raises(ConfigError, match="one in the other; set TFJS_STORE"):
        new_app(tmp_path, **config)


@pytest.mark.parametrize(
    "where", ["store inside", "through a link", "folder of models"]
)
def test_a_store_for_uploads_lies_in_no_model(tmp_path: Path, where: str) -> None:
    write_model(tmp_path / "zoo" / "m")
    config = nested(tmp_path, where)
    new_app(tmp_path, **config)  # who never publishes need not care
    with pytest.raises(ConfigError, match="one in the other"):
        new_app(
            tmp_path,
            TFJS_UPLOADS=["saved"],
            TFJS_AUTHORIZE_PUBLISH=allow_all,
            **config,
        )


@pytest.mark.parametrize(
    "where", ["store inside", "through a link", "folder of models"]
)
def test_nobody_publishes_into_a_model(tmp_path: Path, where: str) -> None:
    write_model(tmp_path / "zoo" / "m")
    config = nested(tmp_path, where)
    app = new_app(tmp_path, **config)
    source = write_generation(tmp_path / "source", 1)
    with pytest.raises(ConfigError, match="one in the other"):
        put(app, source)
    assert not os.path.exists(config["TFJS_STORE"])


def test_nobody_registers_what_lies_in_the_store(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    put_generation(app, tmp_path, 1)
    for path in (store_of(tmp_path) / NAME, tmp_path / "instance", store_of(tmp_path)):
        result = run(app, "register", "copy", path, "--force")
        assert result.exit_code == 1
        assert "one in the other" in result.stderr


def test_neighbours_are_not_nested(tmp_path: Path) -> None:
    write_model(tmp_path / "models")
    app = new_app(
        tmp_path,
        TFJS_MODELS={"m": tmp_path / "models"},
        TFJS_STORE=tmp_path / "models-published",
    )
    assert put_generation(app, tmp_path, 1).number == 1


def test_the_store_is_made_when_it_is_needed(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    client = app.test_client()
    for url in ("/models/x/model.json", "/models/x", "/models/x/w.bin", "/models/"):
        with client.get(url) as r:
            assert r.status_code == 404
    run(app, "list")
    run(app, "check")
    run(app, "gc")
    run(app, "versions", "x")
    run(app, "rollback", "x", "1")
    run(app, "unpublish", "x")
    run(app, "publish", "x", tmp_path / "none")
    assert not (tmp_path / "instance").exists()
    assert local_store(app).names() == []


def test_two_apps_of_one_store(tmp_path: Path) -> None:
    one, other = new_app(tmp_path), new_app(tmp_path)
    put_generation(one, tmp_path, 1)
    put_generation(other, tmp_path, 2)
    for app in (one, other):
        with app.test_client().get(f"/models/{NAME}/model.json") as r:
            assert json.loads(r.data)["flaskTfjs"]["version"] == 2


def test_who_may_save_where_nothing_may_be_saved(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    new_app(tmp_path, TFJS_AUTHORIZE_PUBLISH=allow_all)
    assert "TFJS_UPLOADS names no model" in caplog.text


def test_publish_refuses_an_empty_path(tmp_path: Path) -> None:
    result = run(new_app(tmp_path), "publish", NAME, "")
    assert result.exit_code == 1
    assert "the path is empty" in result.stderr
