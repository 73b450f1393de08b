"""A listener to which others bring those who come: for transports that have no socket each."""

from __future__ import annotations

import abc
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from compoint.drive.wire import Listener
from compoint.limits import BACKLOG

if TYPE_CHECKING:
    from compoint.address import ComPointAddress
    from compoint.drive.wire import Wire

__all__ = ["ArrivalsListener"]

T = TypeVar("T")


class ArrivalsListener(Listener, Generic[T]):
    """Holds those who came until they are accepted. Any thread may bring one."""

    def __init__(self, address: ComPointAddress, most: int = BACKLOG) -> None:
        self.address = address
        self._most = most
        self._arrived: deque[T] = deque()
        self._when_ready: Callable[[], None] | None = None
        self._is_closed = False

    def arrive(self, one: T) -> bool:
        """Somebody comes; False: too many are waiting."""
        if len(self._arrived) >= self._most:
            return False
        self._arrived.append(one)
        if self._is_closed:
            # `close` may have looked before this one came, or not: twice harms nobody.
            self._send_all_away()
        call = self._when_ready
        if call is not None:
            call()
        return True

    def accept(self) -> Wire | None:
        return self._wire_of(self._arrived.popleft()) if self._arrived else None

    def fileno(self) -> int:
        return -1

    def on_ready(self, call: Callable[[], None] | None) -> None:
        self._when_ready = call
        if call is not None and self._arrived:
            call()

    def close(self) -> None:
        if self._is_closed:
            return
        # First: who is found may be brought with a lock held that sending away needs.
        self._withdraw()
        self._is_closed = True
        self._when_ready = None
        self._send_all_away()

    def _send_all_away(self) -> None:
        while self._arrived:
            try:
                self._send_away(self._arrived.popleft())
            except IndexError:  # another thread was faster
                return

    @abc.abstractmethod
    def _wire_of(self, one: T) -> Wire:
        """The wire to one that is accepted."""

    @abc.abstractmethod
    def _send_away(self, one: T) -> None:
        """One that was not accepted."""

    @abc.abstractmethod
    def _withdraw(self) -> None:
        """Be found by nobody any more."""
