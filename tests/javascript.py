"""A function of JavaScript, called from Python: the reference for what a browser, or
TensorFlow.js in it, makes of a value. Values travel as JSON, one to a line."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from reference import CLIENTS
from reference import NODE_MODULES
from servers import require
from servers import require_program

_LOOP = """
const {createInterface} = require('node:readline');
const packages = require('node:module').createRequire(process.cwd() + '/');
console.log = console.info = console.warn = console.error;
(async () => {
  const answer = await (%s)(packages);
  for await (const line of createInterface({input: process.stdin})) {
    const result = await answer(JSON.parse(line));
    process.stdout.write(JSON.stringify(result ?? null) + '\\n');
  }
})();
"""

Function = Callable[[Any], Any]


@contextlib.contextmanager
def javascript(source: str, *packages: str) -> Iterator[Function]:
    """The function that *source* makes: an expression, called once with a ``require``
    for *packages* of npm, whose result, or what it resolves to, is called with each
    value."""
    node = require_program("node")
    for package in packages:
        found = (NODE_MODULES / package).is_dir()
        require(found, f"{package}: npm ci in tests/clients")
    with subprocess.Popen(
        [node, "-e", _LOOP % source],
        cwd=CLIENTS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:

        def call(value: Any) -> Any:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps(value) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            assert line, "node ended; its standard error says why"
            return json.loads(line)

        # The end of its standard input ends it.
        yield call
