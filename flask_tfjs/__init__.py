"""Serve TensorFlow.js models from a Flask app."""

from .blueprint import create_blueprint as create_blueprint
from .blueprint import tfjs_bp as tfjs_bp
from .errors import ConfigError as ConfigError
from .errors import InvalidModel as InvalidModel
from .errors import ModelNotFound as ModelNotFound
from .errors import TFJSError as TFJSError
from .tags import tfjs_preload as tfjs_preload
from .tags import tfjs_script as tfjs_script
from .tags import tfjs_url as tfjs_url

__all__ = [
    "ConfigError",
    "InvalidModel",
    "ModelNotFound",
    "TFJSError",
    "create_blueprint",
    "tfjs_bp",
    "tfjs_preload",
    "tfjs_script",
    "tfjs_url",
]
