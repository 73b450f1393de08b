"""The words by which our initiators and servers know each other in HTTP requests.

See docs/PROTOCOL.md §11.
"""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["ASK", "OPEN", "SESSION", "TURNS_TYPE", "WAIT", "Ask"]

#: The type of a body that is turns.
TURNS_TYPE: Final = "application/vnd.compoint.turns"

#: Names of headers. The session: 32 hexadecimal digits that nobody can guess.
SESSION: Final = "compoint-session"
#: What the request asks for.
ASK: Final = "compoint-ask"
#: How many seconds the initiator is willing to wait, or may be silent.
WAIT: Final = "compoint-wait"
#: The request opens the session; how many seconds ago that was first tried.
OPEN: Final = "compoint-open"


class Ask(enum.Enum):
    """What a request of turns asks for."""

    POLL = "poll"
    WRITE = "write"
    STREAM = "stream"
    UPSTREAM = "upstream"
