"""WhiteNoise that looks at the files for every request."""

from whitenoise import WhiteNoise  # type: ignore[import-untyped]  # it ships no types
from whitenoise_files import MODELS
from whitenoise_files import nothing

app = WhiteNoise(nothing, root=MODELS, prefix="models/", autorefresh=True)
