"""`python -m compoint.cli`: the command without its console script."""

import sys

from compoint.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
