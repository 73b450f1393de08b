"""One process of the demo: plays a role as it is told, a line of JSON for each verb."""

from __future__ import annotations

import json
import sys

from compoint.cli.demo._roles import ROLES, perform

__all__: list[str] = []


def main() -> None:
    """Play until nobody tells what to do any more."""
    role = ROLES[sys.argv[1]]()
    for line in sys.stdin:
        wish = json.loads(line)
        sys.stdout.write(f"{json.dumps(perform(role, wish['verb'], wish['arguments']))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
