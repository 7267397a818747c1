"""Load models that are being replaced, and count what arrives torn. See README.md."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import machine
from common import add_choice
from common import missing
from common import temporary_folder
from contenders import Server
from contenders import Site
from contenders import running
from report import markdown_list
from report import markdown_table

TESTS = Path(__file__).resolve().parents[1] / "tests"
TFJS = TESTS / "clients/node_modules/@tensorflow/tfjs"
MODULES = {
    "flask_cors": "flask-cors",
    "gunicorn": "gunicorn",
    "numpy": "numpy",
    "whitenoise": "whitenoise",
}
if not missing((), MODULES):
    sys.path.append(str(TESTS))
    import tearing

PLACE = "gunicorn gthread, 2 workers x 8 threads"
VERSIONS_OF = ("flask", "werkzeug", "gunicorn", "whitenoise")
VERDICTS = {
    "whole": "whole",
    "failed": "failed visibly",
    "torn": "torn",
    "unclear": "unclear",
}


def _gunicorn(application: str) -> Callable[[Site, int], list[str]]:
    def command(site: Site, port: int) -> list[str]:
        return [
            *(sys.executable, "-m", "gunicorn", f"{application}:app"),
            *("--worker-class", "gthread", "--workers", "2", "--threads", "8"),
            *("--bind", f"127.0.0.1:{port}", "--log-level", "critical"),
            # Longer than clients rest between loads: none finds its connection closed.
            *("--keep-alive", "75", "--no-control-socket"),
        ]

    return command


def _server(name: str, title: str, application: str) -> Server:
    return Server(name, title, PLACE, _gunicorn(application))


OURS = "flask_tfjs"
SERVERS = (
    _server(OURS, OURS, "flask_tfjs_blueprint"),
    _server("flask", "Flask's send_from_directory", "flask_send"),
    _server("whitenoise", "WhiteNoise with autorefresh", "whitenoise_autorefresh"),
    _server("whitenoise-plain", "WhiteNoise without", "whitenoise_files"),
)

Load = dict[str, str]


def main() -> int:
    options = _options()
    to_install = missing((), MODULES) or _missing_clients()
    if to_install:
        print(to_install, file=sys.stderr)
        return 2
    chosen = [one for one in SERVERS if one.name in options.servers]
    facts = _facts(options)
    loads = {one.name: _load_all(one, options) for one in chosen}
    rows = [_row(one, loads[one.name]) for one in chosen]
    print(f"{markdown_list(facts)}\n\n{markdown_table(_header(), rows)}")
    if options.json:
        document = {"facts": facts, "loads": loads}
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 1 if _torn(loads.get(OURS, [])) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loads", type=int, default=2000, help="from each server")
    parser.add_argument("--seed", type=int, default=0, help="of what is written when")
    parser.add_argument("--json", type=Path, metavar="FILE")
    add_choice(parser, "--servers", [server.name for server in SERVERS])
    return parser.parse_args()


def _missing_clients() -> str | None:
    if shutil.which("node") and TFJS.is_dir():
        return None
    return "missing: Node.js, or in tests/clients: npm ci"


def _facts(options: argparse.Namespace) -> dict[str, str]:
    size = tearing.SHARDS * tearing.SHARD_BYTES
    return {
        "command": shlex.join(["python", *sys.argv]),
        "method": (
            f"three models of {tearing.SHARDS} shards, {size / 1e6:.1f} MB; "
            f"{tearing.PROCESSES} x {tearing.LANES} clients; one server at a time"
        ),
        "servers": PLACE,
        **machine.description(VERSIONS_OF, ["node"]),
    }


def _load_all(server: Server, options: argparse.Namespace) -> list[Load]:
    print(server.title, file=sys.stderr)
    with temporary_folder() as folder:
        with (
            tearing.rewriting(folder, options.seed) as writers,
            running([server], folder / "models", folder) as (one,),
        ):
            url = f"http://127.0.0.1:{one.port}/models"
            reports = tearing.load("node", url, options.loads, folder)
        return [asdict(load) for load in tearing.judge(reports, writers)]


def _header() -> list[str]:
    torn = [f"torn, {mode}" for mode in tearing.MODES]
    return ["server", "loads", *VERDICTS.values(), *torn, "states loaded"]


def _row(server: Server, loads: list[Load]) -> list[str]:
    verdicts = Counter(load["verdict"] for load in loads)
    modes = Counter(load["mode"] for load in _torn(loads))
    whole = {(one["mode"], one["detail"]) for one in loads if one["verdict"] == "whole"}
    counts = [
        *(len(loads), *(verdicts[name] for name in VERDICTS)),
        *(*(modes[mode] for mode in tearing.MODES), len(whole)),
    ]
    return [server.title, *(f"{count:,}" for count in counts)]


def _torn(loads: list[Load]) -> list[Load]:
    return [load for load in loads if load["verdict"] == "torn"]


if __name__ == "__main__":
    sys.exit(main())
