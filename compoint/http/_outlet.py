"""Sending as far as the system takes it, and keeping the rest."""

from __future__ import annotations

import socket
from collections import deque
from typing import Final

__all__ = ["Unsent", "send_now", "send_rest"]

#: Buffers that are longer together are handed to the system without joining them.
_JOIN_BYTES: Final = 32 * 1024

Unsent = deque[memoryview]


def send_now(sock: socket.socket, parts: list[bytes]) -> Unsent | None:
    """Send these buffers together; returns what the system did not take, None if nothing.

    Raises OSError: the connection is broken.
    """
    size = sum(map(len, parts))
    if not size:
        return None
    try:
        if len(parts) == 1 or size <= _JOIN_BYTES:
            parts = [b"".join(parts)]
            sent = sock.send(parts[0])
        else:
            sent = sock.sendmsg(parts)
    except BlockingIOError:
        sent = 0
    if sent == size:
        return None
    unsent: Unsent = deque()
    for part in parts:
        if sent < len(part):
            unsent.append(memoryview(part)[sent:])
        sent = max(0, sent - len(part))
    return unsent


def send_rest(sock: socket.socket, unsent: Unsent) -> bool:
    """Send of what is left; whether the system took anything. Raises as `send_now`."""
    has_moved = False
    try:
        while unsent:
            sent = sock.send(unsent[0])
            has_moved = True
            if sent < len(unsent[0]):
                unsent[0] = unsent[0][sent:]
                break
            unsent.popleft()
    except BlockingIOError:
        pass
    return has_moved
