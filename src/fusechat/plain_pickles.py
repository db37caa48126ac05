"""Texts that others published as pickles, read without ever calling what a pickle names.

LiveCodeBench and LiveBench keep the hidden tests of their coding problems as base64 of a compressed
pickle of a text.
"""

from __future__ import annotations

import base64
import binascii
import io
import pickle
import zlib
from typing import Any


class _TextOnly(pickle.Unpickler):
    """Reads a pickle of plain values; one that names anything to be called is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it would call {module}.{name}")

    def persistent_load(self, identity: Any) -> Any:
        raise pickle.UnpicklingError("it refers to something outside")


def unpacked(text: str) -> str:
    """The text behind base64, zlib and pickle.

    Raises `ValueError` where it is no such thing, or another thing than a text.
    """
    try:
        packed = zlib.decompress(base64.b64decode(text, validate=True))
        found = _TextOnly(io.BytesIO(packed)).load()
    except (binascii.Error, zlib.error, pickle.UnpicklingError, EOFError, ValueError,
            IndexError, KeyError, TypeError, AttributeError) as error:  # fmt: skip
        raise ValueError(f"hidden tests cannot be unpacked: {error}") from error
    if not isinstance(found, str):
        raise ValueError(f"hidden tests hold {type(found).__name__}, not a text")
    return found
