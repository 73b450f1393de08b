"""Servers: accepting, refusing, bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from compoint.address import ComPointAddress
from compoint.errors import BusyError, ClosedError, PointTimeout, RefusedError
from compoint.manager import ComManager
from compoint.point import COMPOINT_SERVER, ServerComPoint
from compoint.testing._background import Background
from compoint.testing._patience import eventually
from compoint.testing._settings import configured
from compoint.testing.contract._base import PATIENCE_S, PlainMeeting

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ServerContract"]


class ServerContract(PlainMeeting):
    """What every ServerComPoint promises. Subclass it and set `protocol`."""

    @pytest.fixture
    def server(self) -> Iterator[ServerComPoint]:
        with self.open_server() as server:
            yield server

    def test_a_port_of_zero_is_replaced_by_the_one_taken(self, server: ServerComPoint) -> None:
        assert server.address.port > 0
        assert server.address.protocol == self.protocol

    def test_a_taken_port_is_refused(self, server: ServerComPoint) -> None:
        address = ComPointAddress(self.protocol, server.address.port)
        with pytest.raises(BusyError):
            ComManager.com_point(COMPOINT_SERVER, address)

    def test_a_port_is_free_again_after_the_close(self, server: ServerComPoint) -> None:
        port = server.address.port
        with self.open_initiator(server), server.accept(timeout=PATIENCE_S):
            pass
        server.close()
        ComManager.com_point(COMPOINT_SERVER, ComPointAddress(self.protocol, port)).close()

    @pytest.mark.parametrize("timeout", [0, 0.02])
    def test_an_accept_that_timed_out_leaves_the_server_usable(
        self, server: ServerComPoint, timeout: float
    ) -> None:  # python/cpython #76425
        with pytest.raises(PointTimeout):
            server.accept(timeout=timeout)
        with (
            self.open_initiator(server) as initiator,
            server.accept(timeout=PATIENCE_S) as responder,
        ):
            initiator.write(b"hello")
            assert responder.read(timeout=PATIENCE_S) == b"hello"

    def test_initiators_are_accepted_in_the_order_in_which_they_came(
        self, server: ServerComPoint
    ) -> None:
        initiators = []
        for number in range(5):
            initiator = self.open_initiator(server)
            initiator.write(number)
            eventually(lambda: server.statistics().waiting == number + 1)  # noqa: B023 - now
            initiators.append(initiator)
        for number in range(5):
            with server.accept(timeout=PATIENCE_S) as responder:
                assert responder.read(timeout=PATIENCE_S) == number
        for initiator in initiators:
            initiator.close()

    def test_several_threads_accept_and_each_initiator_goes_to_one(
        self, server: ServerComPoint
    ) -> None:
        accepting = [Background(server.accept).blocked() for _ in range(3)]
        initiators = [self.open_initiator(server) for _ in range(3)]
        responders = [one.result() for one in accepting]
        for number, initiator in enumerate(initiators):
            initiator.write(number)
        came = sorted(responder.read(timeout=PATIENCE_S) for responder in responders)
        assert came == [0, 1, 2]
        for point in [*initiators, *responders]:
            point.close()

    def test_closing_wakes_every_accept(self, server: ServerComPoint) -> None:
        # irmen/Pyro4 #214
        accepting = [Background(server.accept).blocked() for _ in range(3)]
        server.close()
        for one in accepting:
            assert isinstance(one.error(2), ClosedError)

    def test_closing_again_does_nothing_and_accept_says_closed(
        self, server: ServerComPoint
    ) -> None:
        server.close()
        server.close()
        with pytest.raises(ClosedError):
            server.accept(timeout=0)
        assert not server.statistics().is_open

    def test_closing_refuses_who_is_waiting(self, server: ServerComPoint) -> None:
        with self.open_initiator(server) as initiator:
            initiator.write(b"early")
            eventually(lambda: server.statistics().waiting == 1)
            server.close()
            with pytest.raises(RefusedError) as caught:
                initiator.read(timeout=PATIENCE_S)
            assert caught.value.code == "stopped"
            receipt = initiator.close()
            assert receipt.unconfirmed == range(1, 2)

    def test_points_accepted_earlier_outlive_their_server(self, server: ServerComPoint) -> None:
        with (
            self.open_initiator(server) as initiator,
            server.accept(timeout=PATIENCE_S) as responder,
        ):
            server.close()
            initiator.write(b"still here")
            assert responder.read(timeout=PATIENCE_S) == b"still here"

    def test_a_server_iterates_over_its_initiators_until_it_is_closed(
        self, server: ServerComPoint
    ) -> None:
        initiators = [self.open_initiator(server) for _ in range(2)]
        served = []
        for responder in server:
            served.append(responder)
            if len(served) == 2:
                server.close()
        assert len(served) == 2
        for point in [*served, *initiators]:
            point.close()

    def test_a_path_that_nobody_serves_is_refused(self) -> None:
        with self.open_server("/orders") as server:
            with self.open_initiator(server, "/offers") as initiator:
                with pytest.raises(RefusedError, match="/offers") as caught:
                    initiator.read(timeout=PATIENCE_S)
                assert caught.value.code == "no such path"
            with pytest.raises(PointTimeout):
                server.accept(timeout=0)

    def test_the_right_path_is_accepted(self) -> None:
        with (
            self.open_server("/orders") as server,
            self.open_initiator(server) as initiator,
            server.accept(timeout=PATIENCE_S) as responder,
        ):
            initiator.write(b"order")
            assert responder.read(timeout=PATIENCE_S) == b"order"

    def test_beyond_the_backlog_an_initiator_is_told_when_to_come_again(self) -> None:
        # nanomsg/nng #878
        with configured(compoint={"backlog": 2}), self.open_server() as server:
            waiting = []
            for number in (1, 2):
                waiting.append(self.open_initiator(server))
                eventually(lambda: server.statistics().waiting == number)  # noqa: B023 - now
            with (
                self.open_initiator(server) as late,
                pytest.raises(RefusedError) as caught,
            ):
                late.read(timeout=PATIENCE_S)
            assert caught.value.code == "busy"
            assert caught.value.retry_after_s == 1.0
            assert server.statistics().refused == 1
            for initiator in waiting:
                initiator.write(b"in time")
                with server.accept(timeout=PATIENCE_S) as responder:
                    assert responder.read(timeout=PATIENCE_S) == b"in time"
                initiator.close()

    def test_statistics_add_up(self, server: ServerComPoint) -> None:
        initiators = [self.open_initiator(server) for _ in range(3)]
        eventually(lambda: server.statistics().waiting == 3)
        responder = server.accept(timeout=PATIENCE_S)
        seen = server.statistics()
        assert (seen.accepted, seen.waiting, seen.ungreeted) == (1, 2, 0)
        assert (seen.refused, seen.foreign, seen.is_open) == (0, 0, True)
        for point in [responder, *initiators]:
            point.abort("the test is over")

    def test_messages_written_before_the_accept_are_kept(self, server: ServerComPoint) -> None:
        # zeromq/libzmq #4656, tjguk/networkzero #14
        with self.open_initiator(server) as initiator:
            for number in range(100):
                initiator.write(number, timeout=PATIENCE_S)
            initiator.close(timeout=0.05)
            with server.accept(timeout=PATIENCE_S) as responder:
                assert list(responder) == list(range(100))
