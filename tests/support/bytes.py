"""Every small corruption of a file, one at a time."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path


def flips(content: bytes) -> Iterator[bytes]:
    """Yield the content with one bit flipped: each bit of each byte in turn."""
    for place in range(len(content)):
        for bit in range(8):
            altered = bytearray(content)
            altered[place] ^= 1 << bit
            yield bytes(altered)


def cuts(content: bytes) -> Iterator[bytes]:
    """Yield the content truncated to each length in turn."""
    return (content[:length] for length in range(len(content)))


def each_damage(path: Path) -> Iterator[None]:
    """Apply each flip, append and truncation to a file in place, and restore it at the end."""
    whole = path.read_bytes()
    # In place, because a file that is emptied and rewritten is flushed to disk each time.
    with path.open("r+b", buffering=0) as file:
        for place, bit in itertools.product(range(len(whole)), range(8)):
            os.pwrite(file.fileno(), bytes([whole[place] ^ 1 << bit]), place)
            yield
            os.pwrite(file.fileno(), whole[place : place + 1], place)
        for more in (b"\n", whole):
            os.pwrite(file.fileno(), more, len(whole))
            yield
            file.truncate(len(whole))
        for length in reversed(range(len(whole))):
            file.truncate(length)
            yield
        os.pwrite(file.fileno(), whole, 0)
