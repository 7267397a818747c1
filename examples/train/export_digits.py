"""Print scikit-learn's handwritten digits as JSON."""

import json
import sys

from sklearn.datasets import load_digits

digits = load_digits()
json.dump(
    {
        "images": digits.data.astype(int).tolist(),
        "labels": digits.target.tolist(),
    },
    sys.stdout,
)
