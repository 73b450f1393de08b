"""The messages of a file transfer; docs/howto/command.md tells the exchange.

    sender                              receiver
    FileHeader(name, size_bytes)   ->
                                   <-   FileAccepted(name)
    bytes, size_bytes in all       ->
    FileEnd(sha256)                ->
                                   <-   FileStored(name, sha256)
    the next FileHeader, or the goodbye

Either side may say TransferFailed(reason) instead of what comes next, and close.
"""

from __future__ import annotations

from typing import Final

from compoint.limits import KIB
from compoint.message import Streamable

__all__ = [
    "PIECE_BYTES",
    "FileAccepted",
    "FileEnd",
    "FileHeader",
    "FileStored",
    "TransferFailed",
]

#: A file travels in messages of this size: large enough to be fast, and neither side holds
#: more than a few of them, however large the file is.
PIECE_BYTES: Final = 256 * KIB


class FileHeader(Streamable, name="compoint.FileHeader", frozen=True):
    """A file comes."""

    name: str
    size_bytes: int


class FileAccepted(Streamable, name="compoint.FileAccepted", frozen=True):
    """Send it; it will be stored under this name."""

    name: str


class FileEnd(Streamable, name="compoint.FileEnd", frozen=True):
    """All of the file has been sent; this is its digest in hexadecimal digits."""

    sha256: str


class FileStored(Streamable, name="compoint.FileStored", frozen=True):
    """The file is on the receiver's disk under its name, and has this digest."""

    name: str
    sha256: str


class TransferFailed(Streamable, name="compoint.TransferFailed", frozen=True):
    """This side cannot go on; nothing more of the transfer comes."""

    reason: str
