"""Models from a description in JSON, as generated tests make them up.

``{"inputs": [width or [sizes]], "nodes": [node, …], "outputs": [index, …]}``; an index
counts the inputs, then what the nodes return. A node is ``{"layer": class, "config":
{…}, "of": [index, …]}``, or ``{"again": node, "of": […]}`` for another call of an
earlier node's layer, or ``{"model": description, "of": […]}`` for a nested model, or
``{"code": expression of x and y, "of": […]}``.
"""

from __future__ import annotations

from typing import Any

import keras

Description = dict[str, Any]


def make(description: Description) -> Any:
    tensors = [keras.Input(tuple(shape)) for shape in description["inputs"]]
    inputs = list(tensors)
    made: list[Any] = []
    for node in description["nodes"]:
        function = _function(node, made)
        made.append(function)
        given = [tensors[index] for index in node["of"]]
        result = function(given[0] if len(given) == 1 else given)
        tensors.append(result[0] if isinstance(result, list) else result)
    outputs = [tensors[index] for index in description["outputs"]]
    return keras.Model(inputs, outputs)


def _function(node: dict[str, Any], made: list[Any]) -> Any:
    if "again" in node:
        return made[node["again"]]
    if "model" in node:
        return make(node["model"])
    if "code" in node:
        return _Code(node["code"])
    return getattr(keras.layers, node["layer"])(**node["config"])


class _Code:
    """An expression of operators, as a function of tensors."""

    def __init__(self, expression: str) -> None:
        self.expression = expression

    def __call__(self, given: Any) -> Any:
        x, y = given if isinstance(given, list) else (given, given)
        names = {"x": x, "y": y, "ops": keras.ops}
        return eval(self.expression, names)  # from the tests themselves
