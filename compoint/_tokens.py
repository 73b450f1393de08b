"""A look at MessagePack from outside: token by token, nothing built and nothing hashed.

It tells what a decoder passes over in silence (how many entries each map claims to have)
or walks into (deep nesting, keys made to collide), and costs 0.2 µs a token.
"""

from __future__ import annotations

from typing import Final

from compoint.errors import MessageError
from compoint.limits import NESTING_DEPTH

__all__ = ["map_sizes"]

_FIXED: Final = [0] * 256  # token code -> its whole length, where the code alone tells
for _code in (*range(0x80), *range(0xE0, 0x100), 0xC0, 0xC2, 0xC3):
    _FIXED[_code] = 1
for _code in range(0xA0, 0xC0):
    _FIXED[_code] = 1 + (_code & 0x1F)
for _first, _exponents in ((0xCA, (2, 3)), (0xCC, (0, 1, 2, 3)), (0xD0, (0, 1, 2, 3))):
    for _at, _exponent in enumerate(_exponents):
        _FIXED[_first + _at] = 1 + (1 << _exponent)

#: token code -> bytes of its length field, bytes behind the field beside the content
_COUNTED: Final = {
    **{0xC4 + at: (1 << at, 0) for at in range(3)},  # bin
    **{0xD9 + at: (1 << at, 0) for at in range(3)},  # str
    **{0xC7 + at: (1 << at, 1) for at in range(3)},  # ext
    **{0xDC + at: (2 << at, 0) for at in range(2)},  # array
    **{0xDE + at: (2 << at, 0) for at in range(2)},  # map
}
_MAPS: Final = frozenset({*range(0x80, 0x90), 0xDE, 0xDF})
_CONTAINERS: Final = _MAPS | {*range(0x90, 0xA0), 0xDC, 0xDD}
_NO_KEYS: Final = _CONTAINERS | {*range(0xC7, 0xCA), *range(0xD4, 0xD9)}

_CUT: Final = "the message ends in the middle"
_TRAILING: Final = "{} bytes are left over behind the message"


def map_sizes(payload: bytes) -> list[int]:
    """The declared sizes of all maps of a payload, in the order of their headers.

    Builds and hashes nothing, so it may look at anything. Refuses what is cut short, too
    deep nesting, and keys that are arrays, maps or extensions.
    """
    sizes: list[int] = []
    above: list[tuple[int, bool]] = []
    left, in_map, at, end = 1, False, 0, len(payload)
    while True:
        while not left:
            if not above:
                if at != end:
                    raise MessageError(_CUT if at > end else _TRAILING.format(end - at))
                return sizes
            left, in_map = above.pop()
        if at >= end:
            raise MessageError(_CUT)
        code = payload[at]
        left -= 1
        if length := _FIXED[code]:
            at += length
            continue
        if code in _NO_KEYS and in_map and left & 1:
            raise MessageError("a key of a map is an array, a map or an extension")
        at, length = _content(payload, at)
        if code not in _CONTAINERS:
            at += length
            continue
        above.append((left, in_map))
        if len(above) > NESTING_DEPTH:
            raise MessageError(f"more than {NESTING_DEPTH} levels of nesting")
        left, in_map = length, code in _MAPS
        if in_map:
            sizes.append(length)
            left *= 2


def _content(payload: bytes, at: int) -> tuple[int, int]:
    """Where the content of the token at `at` begins, and its length (bytes, items or pairs)."""
    code = payload[at]
    if code in _COUNTED:
        width, extra = _COUNTED[code]
        begin = at + 1 + width
        return begin, int.from_bytes(payload[at + 1 : begin], "big") + extra
    if 0xD4 <= code <= 0xD8:
        return at + 2, 1 << (code - 0xD4)
    if code == 0xC1:
        raise MessageError(f"byte {at} is 0xC1, which MessagePack does not use")
    return at + 1, code & 0x0F
