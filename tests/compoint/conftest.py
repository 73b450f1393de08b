"""Finds the store of rows that the tests of keeping share."""

from __future__ import annotations

import sys
from pathlib import Path

# The folder is no package.
_HERE = str(Path(__file__).resolve().parent)
if _HERE not in sys.path:
    sys.path.append(_HERE)
