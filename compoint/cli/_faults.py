"""How a subcommand ends early."""

from __future__ import annotations

__all__ = ["CommandFailed", "why"]


class CommandFailed(Exception):
    """The command could not do what it was asked for; its text is the sentence to show.

    `for_peer` is what a peer may know of it, which is not how the folders of this machine
    are called.
    """

    def __init__(self, what: str, *, for_peer: str = "") -> None:
        super().__init__(what)
        self.for_peer = for_peer or what


def why(error: OSError) -> str:
    """What the system says, with the file it is about."""
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if isinstance(error.filename, str) else reason
