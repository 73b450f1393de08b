"""The thread that takes mails out of the drop box, whoever has put them there.

A mail leaves the drop box when all it brought is in the store. What is no frame for this
mailbox is put aside, and nothing is ever answered to whoever has sent it. A mail that cannot be
read or taken away stays, is looked at again later, and keeps no other one waiting.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from compoint.deadline import clock
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
#: A mail that could not be read, or not taken away, is looked at again after this time.
AGAIN_S: Final = 10.0
#: How often leftovers of killed writers are looked for.
TIDY_EACH_S: Final = 3600.0
#: A report about a mail stands in the first bytes of its own mail.
_REPORT_BYTES: Final = 512 * 1024
#: After so many mails of a kind of fault, no more of them are logged.
_LOGGED: Final = 20


class _Left(NamedTuple):
    """A mail that stays where it is."""

    why: str
    again_at: float


class _Understood(NamedTuple):
    """What a mail brings."""

    #: Whether something in it is for us; else the mail is put aside.
    is_ours: bool
    frames: list[Frame]
    size: int = 0


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
        self._left: dict[str, _Left] = {}
        self._tidy_at = clock() + TIDY_EACH_S
        self._logged: dict[str, int] = {}
        #: The mailboxes that are not ours for which frames came; those that were logged.
        self._others: set[str] = set()
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
                self._office.note_trouble("in", self._trouble())
            self._tidy()
            self._wait()

    def _trouble(self) -> str:
        if not self._left:
            return ""
        name, left = next(iter(self._left.items()))
        count = len(self._left)
        what = "a mail cannot be taken" if count == 1 else f"{count} mails cannot be taken, such as"
        return f"{what}: {self._dropbox.path(name)} ({left.why})"

    def _tidy(self) -> None:
        if clock() >= self._tidy_at:
            self._tidy_at = clock() + TIDY_EACH_S
            with contextlib.suppress(OSError):  # the next look tells of it
                self._dropbox.tidy()

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
        """Take the mails that wait, as one step; whether there are more."""
        names = self._due()
        self._has_found = bool(names)
        frames: list[Frame] = []
        taken: list[str] = []
        aside: list[str] = []
        looked = held = 0
        for name in names[: self._most]:
            looked += 1
            understood = self._understood(name)
            if understood is None:
                continue
            held += understood.size
            frames += understood.frames
            (taken if understood.is_ours else aside).append(name)
            if held > _BYTES:
                break
        if not self._take(frames):
            if looked > 1:
                # One by one: only the mail at fault is to be put aside.
                self._most = 1
                return True
            aside += taken
            taken = []
        self._most = _MAILS
        for name in taken:
            self._settle(self._dropbox.remove, name)
        for name in aside:
            self._settle(self._dropbox.set_aside, name)
        return looked < len(names)

    def _due(self) -> list[str]:
        """The mails that are to be looked at now."""
        names = self._dropbox.waiting()
        self._left = {name: self._left[name] for name in names if name in self._left}
        now = clock()
        later = {name for name, left in self._left.items() if left.again_at > now}
        return [name for name in names if name not in later]

    def _settle(self, step: Callable[[str], object], name: str) -> None:
        """Have a mail away from where it waits."""
        try:
            with contextlib.suppress(FileNotFoundError):  # a person was faster
                step(name)
        except OSError as error:
            self._leave(name, error)

    def _leave(self, name: str, error: OSError) -> None:
        """One of a person's doing, or on a bad place of the disk: it may get better."""
        why = error.strerror or str(error)
        if name not in self._left:
            path = self._dropbox.path(name)
            self._note("left", f"a mail cannot be taken yet: {path} ({why})")
        self._left[name] = _Left(why, clock() + AGAIN_S)

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

    def _understood(self, name: str) -> _Understood | None:
        """What a mail brings; None: it stays where it is, or is not there any more.

        OSError: nothing can be kept now.
        """
        size = 0
        try:
            read = self._read(name)
            if read is None:
                return None
            found, start, size = read
            match found.kind:
                case Kind.PAYLOADS:
                    return _Understood(*self._good_frames(name, found), size)
                case Kind.REPORT:
                    return _Understood(self._is_ours(name, start), [], size)
                case Kind.FOREIGN:
                    self._put_aside(name, "no frame in it")
        except OSError:
            raise
        except MemoryError:
            self._put_aside(name, "too large for this machine")
        except Exception:  # noqa: BLE001 - one mail must not stop all others
            _log.exception("internal error at a mail; please report it")
            self._put_aside(name, "internal error")
        return _Understood(is_ours=False, frames=[], size=size)

    def _read(self, name: str) -> tuple[Found, bytes, int] | None:
        """What is in a mail, the first bytes of a report, and the mail's size."""
        try:
            with open(self._dropbox.path(name), "rb") as file:
                found = find(file)
                size = file.tell()
                file.seek(0)
                start = file.read(_REPORT_BYTES) if found.kind is Kind.REPORT else b""
                return found, start, size
        except FileNotFoundError:
            return None
        except OSError as error:
            self._leave(name, error)
            return None

    def _is_ours(self, name: str, start: bytes) -> bool:
        report = parse_report(start)
        if report is not None and self._office.came_back(report):
            return True
        self._put_aside(name, "a report about no mail of ours")
        return False

    def _good_frames(self, name: str, found: Found) -> tuple[bool, list[Frame]]:
        """Whether a mail has frames for this mailbox, and all whose maker may be trusted."""
        if found.facts.is_from_list or found.facts.return_path == "<>":
            # Whoever passes it on to many, or sends it back, is no peer.
            self._put_aside(name, "sent by a mailing list or a mail system")
            return False, []
        frames = []
        is_ours = False
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
                    is_ours |= self._is_for_us(envelope.frame)
            for fault in inside.faults:
                why = str(fault) if fault.why is not Why.FOREIGN else why
                self._note(f"frame: {fault.why.value}", f"{name}: {fault}")
        if not frames:
            self._put_aside(name, why)
        elif not is_ours:
            self._count("for another mailbox")
        return is_ours, frames

    def _is_for_us(self, frame: Frame) -> bool:
        """Whether it names our mailbox; the office counts, and drops, one that does not."""
        ours, named = self._office.settings.mailbox, frame.receiver.mailbox
        if named.casefold() == ours.casefold():
            return True
        if named not in self._others and len(self._others) < _LOGGED:
            self._others.add(named)
            _log.warning(
                "%s writes to the mailbox %s, and that of this program is %s: nothing is taken or "
                "answered until both sides name it alike", frame.sender.mailbox, named, ours,
            )  # fmt: skip
        return False

    def _count(self, kind: str) -> None:
        self.put_aside[kind] = self.put_aside.get(kind, 0) + 1

    def _put_aside(self, name: str, why: str) -> None:
        kind = why.partition(":")[0]
        self._count(kind)
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
