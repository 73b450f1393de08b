"""All peers by name, with what they need and the settings they are given.

The rooms are loaded in the worker processes only, each where it is measured.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.postfix import postfix_program

if TYPE_CHECKING:
    from bench.peer import Peer

__all__ = ["CARDS", "NO_STAGE", "Card", "Stage", "card"]

_BLOCKING: Mapping[str, str] = {"COMPOINT_SPIN": "0"}


@dataclass(frozen=True, slots=True)
class Stage:
    """What both processes of a measurement find around them."""

    environment: Mapping[str, str] = field(default_factory=dict)
    #: What their command lines begin with, as to run them as another user.
    prefix: tuple[str, ...] = ()


NO_STAGE = Stage()


@dataclass(frozen=True, slots=True)
class Card:
    """One row of the table, before anything is loaded."""

    key: str
    title: str
    #: "module:class" of the adapter.
    room: str
    #: The package that must be importable.
    package: str
    #: What its settings are, for the legend; empty where another row says it.
    settings: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    #: "module:function" of what has to run around both processes: its context is a Stage. All
    #: there is needs Postfix.
    stage: str = ""

    @property
    def is_ours(self) -> bool:
        return self.package in ("compoint", "channel")

    @property
    def is_installed(self) -> bool:
        if self.stage and not postfix_program():
            return False
        return importlib.util.find_spec(self.package) is not None

    def load(self, message_bytes: int) -> Peer:
        adapter: type[Peer] = _named(self.room)
        return adapter(message_bytes)

    def staged(self) -> AbstractContextManager[Stage]:
        """Entered around one measurement, by the process that starts it."""
        if not self.stage:
            return nullcontext(NO_STAGE)
        make: Callable[[], AbstractContextManager[Stage]] = _named(self.stage)
        return make()


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


CARDS = (
    Card(
        "raw",
        "raw Python socket loop",
        "bench.peers.raw:Raw",
        "socket",
        "blocking sockets, TCP_NODELAY, 4-byte length; each receive loops until it has exactly"
        " what it needs; up to 16 KiB one `sendall` per message, above it `sendmsg` without a"
        " copy; from 64 KiB into one buffer",
    ),
    Card(
        "connection",
        "multiprocessing.connection",
        "bench.peers.connection:MultiprocessingConnection",
        "multiprocessing",
        "AF_INET, `send_bytes`/`recv_bytes`, no authkey; TCP_NODELAY set on its descriptor,"
        " which it does not do itself",
    ),
    Card(
        "connection-pickle",
        "multiprocessing.connection, pickled",
        "bench.peers.connection:PickledConnection",
        "multiprocessing",
        "`send`/`recv` of a dataclass with the same three fields",
    ),
    Card(
        "zmq-pair",
        "pyzmq PAIR",
        "bench.peers.zeromq:Pair",
        "zmq",
        "all pyzmq rows: one I/O thread, linger 0, tcp; copying below 64 KiB, `copy=False`"
        " on both sides from there; high-water mark 10 000 up to 256 B, the default of 1000 above"
        " (0, none at all, is not faster)",
    ),
    Card(
        "zmq-push",
        "pyzmq PUSH/PULL",
        "bench.peers.zeromq:PushPull",
        "zmq",
        "the confirmation comes back over a second PUSH/PULL pair",
    ),
    Card(
        "zmq-dealer",
        "pyzmq DEALER/ROUTER",
        "bench.peers.zeromq:DealerRouter",
        "zmq",
        "one DEALER per line, all in one context; the ROUTER is served by one thread, which is"
        " faster than worker threads behind a proxy",
    ),
    Card(
        "websockets",
        "websockets.sync",
        "bench.peers.websocket:WebSocket",
        "websockets",
        "compression None, max_size None, ping_interval None, no proxy;"
        " its C speedups where installed",
    ),
    Card("compoint", "ComPoint", "bench.peers.ours:Plain", "compoint", "tcp, default settings"),
    Card(
        "compoint-blocking",
        "ComPoint, blocking",
        "bench.peers.ours:Plain",
        "compoint",
        "the same with COMPOINT_SPIN=0 on both sides",
        _BLOCKING,
    ),
    Card(
        "compoint-typed",
        "ComPoint, typed",
        "bench.peers.ours:TypedPlain",
        "compoint",
        "a Streamable class with three fields, `read(Order)` on both sides",
    ),
    Card(
        "channel",
        "Channel",
        "bench.peers.ours:Channels",
        "channel",
        "tcp, default settings; all channels of a process share one connection",
    ),
    Card(
        "channel-blocking",
        "Channel, blocking",
        "bench.peers.ours:Channels",
        "channel",
        "the same with COMPOINT_SPIN=0 on both sides",
        _BLOCKING,
    ),
    Card("channel-typed", "Channel, typed", "bench.peers.ours:TypedChannels", "channel"),
    Card(
        "post-http-server",
        "POST, http.server",
        "bench.peers.post:HttpServer",
        "requests",
        "all POST rows: one `requests` Session, `session.post(url, data=payload, timeout=10)"
        ".content`, one kept connection, TCP_NODELAY, no access log; `ThreadingHTTPServer`,"
        " HTTP/1.1, buffered answers",
    ),
    Card(
        "post-gunicorn",
        "POST, gunicorn",
        "bench.peers.post:Gunicorn",
        "gunicorn",
        "one gthread worker with 4 threads",
    ),
    Card(
        "post-uvicorn",
        "POST, uvicorn",
        "bench.peers.post:Uvicorn",
        "uvicorn",
        "uvloop and httptools where installed, else asyncio and h11; lifespan and WebSocket off",
    ),
    Card(
        "http-streaming",
        "ComPoint, http",
        "bench.peers.ours_http:Streaming",
        "compoint",
        "default settings: streams both ways, since nothing stands in between",
    ),
    Card(
        "http-polling",
        "ComPoint, http, polling",
        "bench.peers.ours_http:Polling",
        "compoint",
        "the initiator with `streams = off` in `[http]`",
    ),
    Card(
        "mail-trivial",
        "a script of ten lines",
        "bench.peers.mail_trivial:Trivial",
        "smtplib",
        "all mail rows: a Postfix of its own on this machine, without TLS; here"
        " `smtplib.sendmail` on a kept connection, and Postfix starts a Python script by"
        " .forward, which writes the whole mail to the disk, renames it and sends a datagram",
        stage="bench.peers.mail_stage:with_script",
    ),
    Card(
        "mail",
        "ComPoint, mail",
        "bench.peers.mail:Mail",
        "compoint",
        "by the printed recipe for .forward; default settings, but rate = 1000",
        stage="bench.peers.mail_stage:with_receiver",
    ),
    Card(
        "mail-default-rate",
        "ComPoint, mail, default rate",
        "bench.peers.mail:Mail",
        "compoint",
        "the same with the default rate: 1 mail per second, after 3 at once",
        stage="bench.peers.mail_stage:with_receiver_at_default_rate",
    ),
    Card(
        "smtplib",
        "smtplib",
        "bench.peers.mail_submit:Smtplib",
        "smtplib",
        "`sendmail` on one kept connection; the Postfix of these rows throws the mails away",
        stage="bench.peers.mail_stage:with_sink",
    ),
    Card(
        "mail-submission",
        "our submission alone",
        "bench.peers.mail_submit:Submitting",
        "compoint",
        "mails that are made already",
        stage="bench.peers.mail_stage:with_sink",
    ),
    Card(
        "mail-outbound",
        "our thread for mails out",
        "bench.peers.mail_submit:Flushing",
        "compoint",
        "one message waits for each of as many mailboxes; no limit of the rate. Each mail is"
        " taken from the store, made, handed over, and noted there",
        stage="bench.peers.mail_stage:with_sink",
    ),
)

_BY_KEY = {one.key: one for one in CARDS}


def card(key: str) -> Card:
    """The card of a peer; KeyError for a name that is none."""
    return _BY_KEY[key]
