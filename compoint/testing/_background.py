"""A blocking call in a thread of its own."""

from __future__ import annotations

import functools
import threading
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from compoint.testing._patience import asleep, thread_id

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Background"]

T = TypeVar("T")


class Background(Generic[T]):
    """Runs `call(*arguments, **options)` and keeps what came of it.

        reading = Background(point.read).blocked()
        point.close()
        assert isinstance(reading.error(), ClosedError)

    The thread is a daemon, so that a call which never ends fails its test and not the
    process.
    """

    def __init__(self, call: Callable[..., T], *arguments: Any, **options: Any) -> None:
        self._call: Callable[[], T] = functools.partial(call, *arguments, **options)
        self._value: T | None = None
        self._error: BaseException | None = None
        #: `time.monotonic()` when the call ended; 0 before.
        self.ended_at = 0.0
        self.thread = threading.Thread(target=self._run, daemon=True, name="background")
        self.thread.start()

    def _run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:  # noqa: BLE001 - kept for the test
            self._error = error
        self.ended_at = time.monotonic()

    def blocked(self) -> Background[T]:
        """Wait until the call sleeps; returns itself."""
        try:
            asleep(thread_id(self.thread))
        except AssertionError:
            self.thread.join(1)
            if not self.is_over:
                raise
            came = self._value if self._error is None else self._error
            raise AssertionError(f"the call ended instead of blocking: {came!r}") from self._error
        return self

    @property
    def is_over(self) -> bool:
        return not self.thread.is_alive()

    def result(self, within_s: float = 5.0) -> T:
        """What the call returned, or raised.

        Raises:
            AssertionError: it has not ended within `within_s` seconds.
        """
        self._join(within_s)
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def error(self, within_s: float = 5.0) -> BaseException:
        """What the call raised.

        Raises:
            AssertionError: it raised nothing, or has not ended within `within_s` seconds.
        """
        self._join(within_s)
        assert self._error is not None, f"the call raised nothing and returned {self._value!r}"
        return self._error

    def _join(self, within_s: float) -> None:
        self.thread.join(within_s)
        assert self.is_over, f"the call has not ended within {within_s:g} s"
