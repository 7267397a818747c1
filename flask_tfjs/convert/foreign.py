"""Files that are no model of Keras, though somebody may think so: what they are, and
what to do instead."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import MappingProxyType

#: How a model gets into a file that can be converted.
SAVE = "save the whole model with model.save('model.keras')"

WEIGHTS_ONLY = f"holds weights only, without the model; {SAVE}"

_GRAPH = (
    "is a SavedModel of TensorFlow, which no longer has layers; "
    f"{SAVE}, or let the package tensorflowjs convert it to a graph model"
)
_PYTORCH = (
    "is of PyTorch; build the model in Keras, which can run on PyTorch, and "
    "save it there"
)
_ARRAYS = f"holds arrays of NumPy, without the model; {SAVE}"

# What files of each kind begin with.
_HEADS = MappingProxyType(
    {
        b"<": "is a page or an error message, not a model; download it again",
        b"\x1f\x8b": "is compressed with gzip; unpack it first",
        b"version https://git-lfs": (
            "is a Git LFS pointer, not the file itself; run 'git lfs pull'"
        ),
        b"{": f"is JSON, which holds no weights; {SAVE}",
        b"\x80\x02": _PYTORCH,
        b"\x93NUMPY": _ARRAYS,
    }
)

_SUFFIXES = MappingProxyType(
    {
        r"\.tflite": (
            "is of TensorFlow Lite, which keeps no layers; convert the model that "
            "it was made of"
        ),
        r"\.onnx": "is of ONNX; onnxruntime-web runs it in a browser as it is",
        r"\.pb": _GRAPH,
        r"\.pth?": _PYTORCH,
        r"\.index|\.data-\d+-of-\d+|\.ckpt|checkpoint|\.safetensors": WEIGHTS_ONLY,
    }
)

_MEMBERS = MappingProxyType(
    {
        r"(.*/)?saved_model\.pb": _GRAPH,
        r"(.*/)?data\.pkl": _PYTORCH,
        r".*\.npy": _ARRAYS,
        r"(.*/)?model\.json": "is a zip of a model of TensorFlow.js already; unpack it",
        r".*\.(keras|h5|hdf5)": "is a zip that a model was put into; unpack it first",
    }
)

#: Bytes that tell.
HEAD = 64


def what_instead(head: bytes, name: str) -> str:
    """
    :param head: the first bytes of a file that is neither a zip nor HDF5.
    """
    if not head:
        return "is empty; copy it again"
    if head[4:8] == b"TFL3":
        return _SUFFIXES[r"\.tflite"]
    for beginning, sentence in _HEADS.items():
        if head.lstrip().startswith(beginning):
            return sentence
    for suffix, sentence in _SUFFIXES.items():
        if re.search(f"({suffix})$", name, re.IGNORECASE):
            return sentence
    return f"is neither a .keras nor an .h5 file of Keras; {SAVE}"


def what_zip_instead(members: Iterable[str]) -> str:
    """
    :param members: the names of the files in a zip that is no model of Keras.
    """
    members = list(members)
    for pattern, sentence in _MEMBERS.items():
        if any(re.fullmatch(pattern, name) for name in members):
            return sentence
    return f"is a zip, but holds no model of Keras; {SAVE}"
