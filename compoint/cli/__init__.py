"""The `compoint` command: the only place where everything is put together.

`main` is the console script; docs/howto/command.md is its reference.
"""

from compoint.cli._main import main

__all__ = ["main"]
