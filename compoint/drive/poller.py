"""Which descriptors are ready: epoll where the system has it, else `selectors`.

Unlike `selectors` alone, any thread may change what is watched while another waits, for
the price of one system call.
"""

from __future__ import annotations

import select
import selectors
from typing import Protocol

__all__ = ["Poller", "new_poller"]


class Poller(Protocol):
    """A set of watched descriptors."""

    def watch(self, fd: int, *, output: bool, input_too: bool = True) -> None:
        """Watch `fd` for input, output or both; replaces what was said before."""

    def drop(self, fd: int) -> None:
        """Watch `fd` no more; does nothing if it was not watched or is closed."""

    def wait(self, timeout_s: float | None) -> list[int]:
        """The descriptors that are ready, after waiting at most `timeout_s` for one."""

    def close(self) -> None:
        """Give the set back; the descriptors are left alone."""


class _Epoll:
    def __init__(self) -> None:
        self._epoll = select.epoll()

    def watch(self, fd: int, *, output: bool, input_too: bool = True) -> None:
        events = (select.EPOLLIN if input_too else 0) | (select.EPOLLOUT if output else 0)
        try:
            self._epoll.modify(fd, events)
        except FileNotFoundError:
            self._epoll.register(fd, events)

    def drop(self, fd: int) -> None:
        try:
            # Kept in the set without events: watching it again is then one call.
            self._epoll.modify(fd, 0)
        except (OSError, ValueError):
            pass

    def wait(self, timeout_s: float | None) -> list[int]:
        return [fd for fd, _ in self._epoll.poll(timeout_s)]

    def close(self) -> None:
        self._epoll.close()


class _Selector:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def watch(self, fd: int, *, output: bool, input_too: bool = True) -> None:
        read = selectors.EVENT_READ if input_too else 0
        events = read | (selectors.EVENT_WRITE if output else 0)
        try:
            self._selector.modify(fd, events)
        except KeyError:
            self._selector.register(fd, events)

    def drop(self, fd: int) -> None:
        try:
            self._selector.unregister(fd)
        except (KeyError, ValueError, OSError):
            pass

    def wait(self, timeout_s: float | None) -> list[int]:
        return [key.fd for key, _ in self._selector.select(timeout_s)]

    def close(self) -> None:
        self._selector.close()


def new_poller() -> Poller:
    """The best poller of this system."""
    return _Epoll() if hasattr(select, "epoll") else _Selector()
