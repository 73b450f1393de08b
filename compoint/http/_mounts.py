"""Servers inside a web server of the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compoint.http._asgi import AsgiFace
from compoint.http._ports import ports
from compoint.http._wsgi import WsgiFace

if TYPE_CHECKING:
    from compoint.address import ComPointAddress

__all__ = ["asgi_application", "wsgi_application"]


def wsgi_application(address: ComPointAddress) -> WsgiFace:
    """A WSGI application (PEP 3333) for the servers that this process opens at this port.

    `address` says where the web server listens; its path means nothing. Server ComPoints and
    service points opened afterwards with the same host and port do not listen by themselves:
    their requests come through the application.

    A poll that waits for something to be said keeps one thread of the web server busy, up
    to 25 s; streams are not offered. Sessions live in this process, so the web server must
    pass all requests to one: for gunicorn, `--workers 1 --threads N` with N larger than the
    number of initiators.

    Raises:
        AddressError: the port is 0.
        BusyError: this process listens at the port by itself.
    """
    return WsgiFace(ports.mount(address))


def asgi_application(address: ComPointAddress) -> AsgiFace:
    """An ASGI 3 application, as `wsgi_application`; waiting polls and streams cost no thread."""
    return AsgiFace(ports.mount(address))
