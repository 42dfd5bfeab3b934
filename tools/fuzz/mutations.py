"""What all kinds of files have in common: bytes, numbers and names that somebody forgot to think of."""

from __future__ import annotations

from random import Random

NUMBERS = (0, 1, -1, 2, 3, 5, 100, 255, 65536, 2**31 - 1, 2**31, -(2**31), 2**32, 2**62, 2**63 - 1, -(2**63))
BAD_NAMES = (
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "two\nlines",
    "a\r\b\b",
    "[bold]markup[/bold]",
    "\u202eright to left",
    "../../../tmp/file",
    "a/b",
    "'; drop",
    "{0}{x}%s",
    "n" * 100_000,
    "ü\u0301名",
)
_INTERESTING = (b"\0", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff", b"\xff" * 9 + b"\x01", b"\0" * 8, b"\x80" * 11)


def broken(content: bytes, rng: Random) -> bytes:
    """*content* with a few bytes otherwise."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if not data:
            break
        at, what = rng.randrange(len(data)), rng.randrange(7)
        if what == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif what == 1:
            data[at] = rng.randrange(256)
        elif what == 2:
            new = rng.choice(_INTERESTING)
            data[at : at + len(new)] = new
        elif what == 3:
            data[at:at] = rng.choice(_INTERESTING)
        elif what == 4:
            del data[at : at + rng.choice((1, 2, 8, 64))]
        elif what == 5:
            size = rng.choice((1, 4, 16, 64))
            data[at:at] = data[at : at + size]
        elif rng.random() < 0.3:
            del data[at:]
    return bytes(data)
