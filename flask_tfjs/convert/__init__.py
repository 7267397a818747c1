"""Between Keras and TensorFlow.js, and to smaller weights: the extra ``keras``.

Importing this package needs NumPy and h5py; so whoever may do without imports it where
it is used.
"""

from __future__ import annotations

from ..errors import MissingExtra

try:
    import h5py  # noqa: F401 - whether they are there is asked once, here
    import numpy  # noqa: F401 - the same
except ImportError as error:
    raise MissingExtra("Converting and quantizing", "keras", error) from error
