"""Every small way to damage a file, one after the other."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path


def flips(content: bytes) -> Iterator[bytes]:
    """The content with one bit changed: each bit of each byte in turn."""
    for place in range(len(content)):
        for bit in range(8):
            altered = bytearray(content)
            altered[place] ^= 1 << bit
            yield bytes(altered)


def cuts(content: bytes) -> Iterator[bytes]:
    """The content without its end: each length in turn."""
    return (content[:length] for length in range(len(content)))


def each_damage(path: Path) -> Iterator[None]:
    """Do each flip and each cut to a file in its place; at the end the file is as it was."""
    whole = path.read_bytes()
    # In place: a file that is emptied and filled again goes to the disk each time.
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
