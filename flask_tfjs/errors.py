"""The one tree of errors. The web edge turns them into statuses, the command line
into exit codes; nothing in between knows of either.

    TFJSError
    ├── ConfigError
    ├── InvalidModel
    ├── MissingExtra
    ├── ModelNotFound
    ├── UploadRefused
    ├── VersionConflict
    └── VersionNotFound
"""

from __future__ import annotations


def printable(text: str) -> str:
    """*text* as it may be written to a terminal or a log: a file or a weight may be
    named anything, and neither must obey it."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


class TFJSError(Exception):
    """Base of every error this package raises on purpose. The message is a sentence
    for a person: what is wrong, where, and the cure."""


class ConfigError(TFJSError):
    """A ``TFJS_*`` value, or the way the blueprint is used, cannot work."""


class InvalidModel(TFJSError):
    """The files of a model do not add up to what TensorFlow.js can load.

    :ivar where: the member of the JSON or the file at fault, as a name relative to
        the model's directory; never an absolute path, since the text is shown to
        whoever asks for the model.
    """

    def __init__(self, message: str, where: str) -> None:
        super().__init__(message, where)
        self.message = message
        self.where = where

    def __str__(self) -> str:
        return printable(f"{self.where}: {self.message}")


class MissingExtra(TFJSError):
    """What was asked for needs packages that are not installed.

    :param what: the thing asked for, as the start of a sentence.
    :param extra: the name of the extra that brings the packages.
    """

    def __init__(self, what: str, extra: str, cause: ImportError) -> None:
        needed = f" ({cause.name})" if cause.name else ""
        super().__init__(
            f"{what} needs packages that are not installed{needed}: "
            f"pip install 'flask-tfjs[{extra}]'"
        )


class ModelNotFound(TFJSError):
    """No model, or no file of a model, goes by that name."""


class VersionNotFound(TFJSError):
    """A published model has no such version, or no longer."""


class VersionConflict(TFJSError):
    """A published model is not the one that the writer started from."""


class UploadRefused(TFJSError):
    """What a client sent is not stored.

    :ivar status: of the answer.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
