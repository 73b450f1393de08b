"""The command line: every subcommand, argument and option.

Kept apart from the subcommands, so that `--help` loads none of them.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

import compoint

if TYPE_CHECKING:
    from compoint.address import ComPointAddress

__all__ = ["ROOMS", "parser"]

#: Where each subcommand lives; its `run(arguments, output)` returns the exit code.
ROOMS: Final = {
    "demo": "compoint.cli.demo",
    "send": "compoint.cli._send",
    "receive": "compoint.cli._receive",
    "talk": "compoint.cli._talk",
    "status": "compoint.cli._status",
    "mail cancel": "compoint.cli._mail_cancel",
    "mail doctor": "compoint.cli._mail_doctor",
    "mail flush": "compoint.cli._mail_flush",
    "mail install": "compoint.cli._mail_install",
    "mail status": "compoint.cli._mail_status",
}

_EXIT_CODES: Final = """\
exit codes:
  0        everything was done and confirmed
  1        it failed: the peer, the network, the disk, or a file; the sentence says which
  2        wrong usage: an argument, an option, or the configuration
  128 + N  ended by signal N, so 130 for Ctrl-C

ADDRESS is written as in tcp://host:7100; without a host (tcp://:7100) it means this machine.
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command."""
    top = argparse.ArgumentParser(
        prog="compoint",
        description="Blocking communication between programs, from the command line.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"compoint {compoint.__version__}")
    _add_common(top, config=None, debug=False)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_demo(_command(commands, "demo", "run the main job on this machine and check it"))
    _add_send(_command(commands, "send", "send files to `compoint receive`"))
    _add_receive(_command(commands, "receive", "wait for `compoint send` and store its files"))
    _add_talk(_command(commands, "talk", "type lines to a peer and see its lines"))
    _add_status(_command(commands, "status", "show who is queued and who waits"))
    _add_mail(_command(commands, "mail", "set the mail transport up and look into it"))
    return top


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, purpose: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.", allow_abbrev=False
    )
    # Said behind the subcommand as well as before it; not said, it must not undo the other.
    _add_common(command, config=argparse.SUPPRESS, debug=argparse.SUPPRESS)
    return command


def _add_common(of: argparse.ArgumentParser, config: str | None, debug: bool | str) -> None:
    of.add_argument(
        "--config", metavar="FILE", default=config,
        help="the settings file, instead of the _sempconfig that is found otherwise",
    )  # fmt: skip
    of.add_argument(
        "--debug", action="store_true", default=debug,
        help="show the traceback of an error, not only its sentence",
    )  # fmt: skip


def _add_demo(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--protocol", choices=("tcp", "http", "mail", "memory"), default="tcp",
        help="tcp, http: one process for each side; mail: the same, with a mail server in "
        "between; memory: threads of this process (default: tcp)",
    )  # fmt: skip
    command.add_argument(
        "--file", metavar="FILE", help="the file to transfer (default: this project's README)"
    )


def _add_send(command: argparse.ArgumentParser) -> None:
    command.add_argument("files", metavar="FILE", nargs="+", help="what to send")
    _add_address(command, "where `compoint receive` serves")
    _add_channel(command, "the channel the receiver has named", required=True)
    command.add_argument(
        "--wait", metavar="SECONDS", type=_seconds, default=0.0,
        help="how long to try again while nothing listens at ADDRESS (default: not at all)",
    )  # fmt: skip


def _add_receive(command: argparse.ArgumentParser) -> None:
    _add_address(command, "where to serve; port 0 takes any free one")
    _add_channel(command, "the channel to wait for", required=True)
    command.add_argument("--into", metavar="DIR", required=True, help="where to store the files")
    command.add_argument(
        "--overwrite", action="store_true", help="replace files of the same name in DIR"
    )
    command.add_argument(
        "--keep", action="store_true", help="wait for the next sender when one is done"
    )


def _add_talk(command: argparse.ArgumentParser) -> None:
    _add_address(command, "where the peer serves; with --serve, where to serve")
    _add_channel(command, "talk over this channel of a service point", required=False)
    command.add_argument("--serve", action="store_true", help="wait for the peer to come")


def _add_status(command: argparse.ArgumentParser) -> None:
    _add_address(command, "a service point on this machine")
    _add_json(command)


def _add_mail(command: argparse.ArgumentParser) -> None:
    commands = command.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, purpose: str) -> argparse.ArgumentParser:
        one = _command(commands, name, purpose)
        one.set_defaults(command=f"mail {name}")
        return one

    install = add("install", "tell mail readers and systems of our mails")
    either = install.add_mutually_exclusive_group()
    either.add_argument(
        "--show", action="store_true", help="only print what would be written, and what to copy"
    )
    either.add_argument(
        "--remove", action="store_true", help="take the line out of ~/.mailcap again"
    )
    doctor = add("doctor", "send a mail to ourselves and say which step of the way fails")
    _add_wait(doctor, 120.0, "how long the mail may take to arrive")
    _add_json(add("status", "show the conversations of the mailbox and what waits"))
    flush = add("flush", "send what waits now, without waiting for the next try")
    _add_wait(flush, 30.0, "how long the mail server may take")
    cancel = add("cancel", "break conversations off and tell their peers")
    cancel.add_argument(
        "ids", metavar="ID", nargs="+", type=_digits,
        help="the first digits of a conversation's number, as `compoint mail status` shows them",
    )  # fmt: skip
    _add_wait(cancel, 30.0, "how long the mail server may take")


def _add_wait(command: argparse.ArgumentParser, default_s: float, purpose: str) -> None:
    command.add_argument(
        "--wait", metavar="SECONDS", type=_seconds, default=default_s,
        help=f"{purpose} (default: {default_s:g} s)",
    )  # fmt: skip


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON instead of tables")


def _add_address(command: argparse.ArgumentParser, purpose: str) -> None:
    command.add_argument("address", metavar="ADDRESS", type=_address, help=purpose)


def _add_channel(command: argparse.ArgumentParser, purpose: str, *, required: bool) -> None:
    command.add_argument(
        "--channel", metavar="NAME", type=_channel, required=required, help=purpose
    )


def _address(text: str) -> ComPointAddress:
    from compoint.address import ComPointAddress  # noqa: PLC0415 - --help is fast without it
    from compoint.errors import AddressError  # noqa: PLC0415

    try:
        address = ComPointAddress.parse(text)
    except AddressError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if address.protocol == "memory":
        raise argparse.ArgumentTypeError(
            f"{text!r} reaches nobody outside one process; use tcp, as in tcp://:7100"
        )
    return address


def _channel(text: str) -> str:
    from channel.channel import check_correlator  # noqa: PLC0415 - as above
    from compoint.errors import UsageError  # noqa: PLC0415

    try:
        check_correlator(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(error.what) from None
    return text


def _digits(text: str) -> str:
    digits = text.lower()
    if not 0 < len(digits) <= 32 or set(digits) - set("0123456789abcdef"):
        raise argparse.ArgumentTypeError(f"{text!r} are no digits of a conversation's number")
    return digits


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 on")
    return seconds
