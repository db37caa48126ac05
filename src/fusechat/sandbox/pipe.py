"""Messages over pipes: each behind its length. Imports nothing, so that a worker stays small."""

from __future__ import annotations

import os

_HEADER_BYTES = 8


class Pipe:
    """Messages of bytes over two descriptors; `EOFError` where the other side is gone."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader, self._writer = reader, writer

    def send(self, message: bytes) -> None:
        """Write one message."""
        rest = memoryview(len(message).to_bytes(_HEADER_BYTES, "big") + message)
        try:
            while rest:
                rest = rest[os.write(self._writer, rest) :]
        except BrokenPipeError:
            raise EOFError from None

    def receive(self) -> bytes:
        """Read one message."""
        length = int.from_bytes(self._exactly(_HEADER_BYTES), "big")
        self._check(length)
        return self._exactly(length)

    def _check(self, length: int) -> None:
        """Raise where a message of so many bytes is not taken."""

    def _exactly(self, count: int) -> bytes:
        parts: list[bytes] = []
        while count:
            part = os.read(self._reader, min(count, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            count -= len(part)
        return b"".join(parts)
