"""Serve TensorFlow.js models from a Flask app."""

from .auth import allow_all as allow_all
from .auth import bearer_token as bearer_token
from .blueprint import create_blueprint as create_blueprint
from .blueprint import tfjs_bp as tfjs_bp
from .errors import ConfigError as ConfigError
from .errors import InvalidModel as InvalidModel
from .errors import MissingExtra as MissingExtra
from .errors import ModelNotFound as ModelNotFound
from .errors import TFJSError as TFJSError
from .errors import UploadRefused as UploadRefused
from .errors import VersionConflict as VersionConflict
from .errors import VersionNotFound as VersionNotFound
from .isolation import cross_origin_isolated as cross_origin_isolated
from .models.publish import Version as Version
from .publishing import publish as publish
from .publishing import rollback as rollback
from .publishing import unpublish as unpublish
from .publishing import versions as versions
from .server import create_app as create_app
from .signals import model_published as model_published
from .signals import model_rolled_back as model_rolled_back
from .signals import upload_rejected as upload_rejected
from .tags import tfjs_preload as tfjs_preload
from .tags import tfjs_script as tfjs_script
from .tags import tfjs_url as tfjs_url

__all__ = [
    "ConfigError",
    "InvalidModel",
    "MissingExtra",
    "ModelNotFound",
    "TFJSError",
    "UploadRefused",
    "Version",
    "VersionConflict",
    "VersionNotFound",
    "allow_all",
    "bearer_token",
    "create_app",
    "create_blueprint",
    "cross_origin_isolated",
    "model_published",
    "model_rolled_back",
    "publish",
    "rollback",
    "tfjs_bp",
    "tfjs_preload",
    "tfjs_script",
    "tfjs_url",
    "unpublish",
    "upload_rejected",
    "versions",
]
