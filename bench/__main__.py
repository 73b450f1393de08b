"""`python -m bench`: measure, and print the tables; run it from the project root."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from bench.results import Results
from bench.run import NOT_INSTALLED, Placement, chosen, run
from bench.scale import FULL, QUICK
from bench.table import legend, machine, table
from bench.targets import targets_table, verdicts

__all__: list[str] = []


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures ComPoints and Channels beside their peers; prints Markdown.",
        epilog="Exit code: 0 all was measured (met or missed), 1 a measurement failed,"
        " 2 wrong arguments.",
    )
    parser.add_argument(
        "--placement",
        choices=["two", "one", "both"],
        default="both",
        help="where the processes run: as the kernel likes, both on one core, or first one"
        " and then the other (default)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a smoke run: proves that all of it works, its figures mean nothing",
    )
    parser.add_argument(
        "--only",
        type=re.compile,
        metavar="REGEX",
        help='only what matches, of "MEASURE PEER" such as "round-trip compoint"; without'
        " raw there are no ratios",
    )
    parser.add_argument(
        "--no-spin",
        action="store_true",
        help="all of ours with COMPOINT_SPIN=0, not only the rows that say so",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _as_json(found: dict[Placement, Results]) -> dict[str, Any]:
    return {
        "machine": machine(),
        "placements": {place.value: results.to_json() for place, results in found.items()},
        "targets": [
            {
                "target": target.title,
                "asked": target.bound,
                "placement": place.value,
                "measured": measured,
                "verdict": target.judge(measured).strip("*"),
            }
            for target, place, measured in verdicts(found)
        ],
    }


def _is_whole(found: dict[Placement, Results]) -> bool:
    troubles = [why for results in found.values() for why in results.troubles.values()]
    return all(why == NOT_INSTALLED for why in troubles)


def _main() -> int:
    arguments = _arguments()
    if arguments.no_spin:
        os.environ["COMPOINT_SPIN"] = "0"
    scale = QUICK if arguments.quick else FULL
    plan = chosen(arguments.only)
    if not plan:
        _say(f"nothing matches {arguments.only.pattern!r}")
        return 2
    both = arguments.placement == "both"
    places = list(Placement) if both else [Placement(arguments.placement)]
    print("# Benchmark\n")
    print("\n".join(f"- {name}: {what}" for name, what in machine().items()), flush=True)
    began_at = time.monotonic()
    found: dict[Placement, Results] = {}
    for place in places:
        found[place] = run(plan, place, scale, _say)
        print(f"\n{table(plan, place, scale, found[place])}", flush=True)
    print(f"\n{targets_table(found)}\n\n{legend(plan, scale)}")
    _say(f"{time.monotonic() - began_at:.0f} s")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(_as_json(found), indent=1) + "\n")
    return 0 if _is_whole(found) else 1


if __name__ == "__main__":
    sys.exit(_main())
