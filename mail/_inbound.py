"""The thread that takes mails out of the drop box, whoever has put them there.

A mail leaves the drop box when all it brought is in the store. What is no frame for this
mailbox is put aside, and nothing is ever answered to whoever has sent it.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from typing import TYPE_CHECKING, Final

from compoint.errors import BusyError, ConfigError, Phase
from mail._dropbox import Dropbox
from mail._envelope import EnvelopeError, Why, find_frames
from mail._find import Kind, find
from mail._reports import parse_report

if TYPE_CHECKING:
    from mail._envelope import Frame
    from mail._find import Found
    from mail._post_office import PostOffice

__all__ = ["Inbound"]

_log = logging.getLogger("compoint.mail")

#: The drop box is looked at so often even when nobody says that there is something.
LOOK_S: Final = 1.0
#: A poke behind one for nothing is followed so late: anybody on this machine can poke.
PAUSE_S: Final = 0.005
#: So many mails, and so many bytes of them, are one step.
_MAILS: Final = 256
_BYTES: Final = 16 << 20
#: After so many mails of a kind of fault, no more of them are logged.
_LOGGED: Final = 20


class Inbound:
    """Raises:
    BusyError: another program has the receiver port.
    ConfigError: the drop box cannot be used.
    """

    def __init__(self, office: PostOffice) -> None:
        self._office = office
        self._is_over = False
        self._has_found = False
        self._is_poked = False
        #: So many mails are one step.
        self._most = _MAILS
        self._logged: dict[str, int] = {}
        #: How many mails were put aside, by the reason.
        self.put_aside: dict[str, int] = {}
        spool = office.settings.spool
        try:
            self._dropbox = Dropbox(spool)
            self._dropbox.tidy()
        except OSError as error:
            raise ConfigError(
                f"the folder {spool} cannot be used: {error.strerror}", phase=Phase.CONFIGURE,
                hint="give [mail] spool a folder of your own, mode 0700",
            ) from None  # fmt: skip
        self._socket = _bound(office.settings.receiver_port)
        self._thread = threading.Thread(target=self._run, name="compoint-mail-in")

    @property
    def dropbox(self) -> Dropbox:
        return self._dropbox

    def start(self) -> None:
        self._thread.start()

    def poke(self) -> None:
        """Something is in the drop box. Any thread may call."""
        with contextlib.suppress(OSError):  # closed: nobody looks any more
            self._socket.sendto(b"", self._socket.getsockname())

    def stop(self) -> None:
        self._is_over = True
        self.poke()
        self._thread.join()
        self._socket.close()

    def after_fork(self) -> None:
        self._socket.close()

    # --- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        while not self._is_over:
            try:
                while self._look() and not self._is_over:
                    pass
            except OSError as error:
                # The disk is full, or the like: the mails wait where they are.
                text = error.strerror or str(error)
                self._office.note_trouble("in", f"mails wait in the drop box: {text}")
            else:
                self._office.note_trouble("in", "")
            self._wait()

    def _wait(self) -> None:
        # Whoever else has poked meanwhile is served by the same look.
        with contextlib.suppress(TimeoutError, BlockingIOError):
            was_fooled = self._is_poked and not self._has_found
            self._is_poked = False
            self._socket.settimeout(LOOK_S)
            self._socket.recv(1)
            self._is_poked = True
            self._socket.settimeout(PAUSE_S if was_fooled else 0.0)
            while True:
                self._socket.recv(1)

    def _look(self) -> bool:
        """Take the mails that wait, as one step; whether there may be more."""
        names = self._dropbox.waiting()[: self._most]
        self._has_found = bool(names)
        frames: list[Frame] = []
        taken: list[str] = []
        aside: list[str] = []
        held = 0
        for name in names:
            good, is_report, size = self._understood(name)
            held += size
            frames += good
            (taken if good or is_report else aside).append(name)
            if held > _BYTES:
                break
        if not self._take(frames):
            if len(names) > 1:
                # One by one: only the mail at fault is to be put aside.
                self._most = 1
                return True
            aside += taken
            taken = []
        self._most = _MAILS
        for name in taken:
            self._dropbox.remove(name)
        for name in aside:
            self._dropbox.set_aside(name)
        return len(taken) + len(aside) < len(names) or len(names) == _MAILS

    def _take(self, frames: list[Frame]) -> bool:
        """Whether these could be taken, which is a fault of ours if not."""
        try:
            if frames:
                self._office.take(frames)
        except OSError:
            raise
        except Exception:  # noqa: BLE001 - one mail must not stop all others
            _log.exception("internal error at a mail, which is put aside; please report it")
            return False
        return True

    def _understood(self, name: str) -> tuple[list[Frame], bool, int]:
        """The frames in a mail, whether it is a report about one of ours, and its size."""
        size = 0
        try:
            with open(self._dropbox.path(name), "rb") as file:
                found = find(file)
                size = file.tell()
            match found.kind:
                case Kind.PAYLOADS:
                    return self._good_frames(name, found), False, size
                case Kind.REPORT:
                    return [], self._is_ours(name), size
                case Kind.FOREIGN:
                    self._put_aside(name, "no frame in it")
        except OSError:
            raise
        except MemoryError:
            self._put_aside(name, "too large for this machine")
        except Exception:  # noqa: BLE001 - one mail must not stop all others
            _log.exception("internal error at a mail; please report it")
            self._put_aside(name, "internal error")
        return [], False, size

    def _is_ours(self, name: str) -> bool:
        with open(self._dropbox.path(name), "rb") as file:
            report = parse_report(file.read(512 * 1024))
        if report is not None and self._office.came_back(report):
            return True
        self._put_aside(name, "a report about no mail of ours")
        return False

    def _good_frames(self, name: str, found: Found) -> list[Frame]:
        """The frames of a mail that this mailbox may act on."""
        if found.facts.is_from_list or found.facts.return_path == "<>":
            # Whoever passes it on to many, or sends it back, is no peer.
            self._put_aside(name, "sent by a mailing list or a mail system")
            return []
        frames = []
        why = "no frame in it"
        for payload in found.payloads:
            inside = find_frames(payload)
            for envelope in inside.envelopes:
                try:
                    envelope.check_trust(self._office.settings.secret)
                except EnvelopeError as error:
                    why = str(error)
                else:
                    frames.append(envelope.frame)
            for fault in inside.faults:
                why = str(fault) if fault.why is not Why.FOREIGN else why
                self._note(f"frame: {fault.why.value}", f"{name}: {fault}")
        if not frames:
            self._put_aside(name, why)
        return frames

    def _put_aside(self, name: str, why: str) -> None:
        kind = why.partition(":")[0]
        self.put_aside[kind] = self.put_aside.get(kind, 0) + 1
        self._note(kind, f"{name} is put aside: {why}")

    def _note(self, kind: str, text: str) -> None:
        self._logged[kind] = self._logged.get(kind, 0) + 1
        if self._logged[kind] <= _LOGGED:
            _log.warning("%s", text)


def _bound(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError as error:
        sock.close()
        raise BusyError(
            f"the receiver port {port} cannot be used ({error.strerror})",
            phase=Phase.OPEN,
            hint="another program has it: give [mail] receiverPort another number in both places",
        ) from None
    return sock
