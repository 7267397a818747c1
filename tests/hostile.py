"""A model that anybody may have made: every text in it tries to be more than text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from models import write_model

#: Texts that break out of HTML, of attributes in either quotes, of scripts, of a line
#: and of the direction of reading.
ATTACKS = [
    "<script>window.hacked = 1</script>",
    "\"><img src=x onerror='window.hacked = 1'>",
    "'><svg onload=window.hacked=1>",
    "</script><script>window.hacked = 1</script>",
    "{{ 7 * 191 }}{% raw %}",
    "javascript:window.hacked=1",
    "&lt;b&gt;",
    "\u202etxt.exe\u2066",
    "a\nb\0c\x1b[31m",
]


def write_hostile(folder: Path) -> Path:
    """A sound model whose layers, weights, classes and files have such names."""
    layers: list[dict[str, Any]] = [
        {
            "class_name": "Dense",
            "config": {
                "name": attack,
                "units": 2,
                "activation": "linear",
                "use_bias": False,
                **({} if index else {"batch_input_shape": [None, 2]}),
            },
        }
        for index, attack in enumerate(ATTACKS)
    ]
    layers[-1]["class_name"] = ATTACKS[0]
    layers[0]["config"]["dtype"] = ATTACKS[1]
    topology = {"class_name": "Sequential", "config": {"name": "s", "layers": layers}}
    weights = [
        {"name": f"{attack}/kernel", "shape": [2, 2], "dtype": "float32"}
        for attack in ATTACKS
    ]
    shards = [f"{ATTACKS[0].replace('/', '')}.bin", "' onclick='x.bin"]
    half = 16 * len(weights) // 2
    document = {
        "format": ATTACKS[0],
        "generatedBy": ATTACKS[0],
        "modelTopology": topology,
        "weightsManifest": [{"paths": shards, "weights": weights}],
    }
    text = json.dumps(document).encode()
    data = dict.fromkeys(shards, bytes(half))
    return write_model(folder, document=text, shards=data)


def write_hostile_entries(folder: Path) -> Path:
    """A directory of models whose files have such names, a broken one among them."""
    for attack in ATTACKS[:3]:
        name = attack.replace("/", "_")
        write_model(folder, entry=f"{name}.json", shards={"weights.bin": bytes(32)})
    write_model(folder, entry="<i>broken.json", shards={}, document=b'{"modelTopology"')
    return folder
