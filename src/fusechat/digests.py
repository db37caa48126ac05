"""Digests: how the system knows that two things are the same thing.

Every key, row identity and staleness test goes through this file, so that "same"
means one thing everywhere: the same canonical JSON, or the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

DIGEST_LENGTH = 16
"""Hex characters of a digest (64 bits; 3 million rows collide with a chance of 2e-7)."""

_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)

# Digests of unchanged files, so that a model folder is read once per process.
_FILE_CACHE: dict[tuple[str, int, int], str] = {}


def canonical_json(value: Any) -> str:
    """The one JSON spelling of `value`: sorted keys, no spaces, real characters, no NaN."""
    return _ENCODER.encode(value)


def digest(value: Any) -> str:
    """Digest of any JSON value, `DIGEST_LENGTH` hex characters."""
    return digest_bytes(canonical_json(value).encode("utf-8", "surrogatepass"))


def digest_bytes(data: bytes) -> str:
    """Digest of bytes, `DIGEST_LENGTH` hex characters of SHA-256."""
    return hashlib.sha256(data).hexdigest()[:DIGEST_LENGTH]


def digest_path(path: Path) -> str:
    """Digest of a file's bytes, or of a folder's files (names and bytes, hidden files left out).

    Raises `FileNotFoundError` where there is nothing at `path`.
    """
    if path.is_file():
        return _digest_file(path)
    if not path.is_dir():
        raise FileNotFoundError(path)
    files = sorted(
        p
        for p in path.rglob("*")
        if p.is_file() and not any(part.startswith(".") for part in p.relative_to(path).parts)
    )
    return digest([[p.relative_to(path).as_posix(), _digest_file(p)] for p in files])


def _digest_file(path: Path) -> str:
    stat = path.stat()
    key = (str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    if key not in _FILE_CACHE:
        hasher = hashlib.sha256()
        with path.open("rb") as handle:
            while block := handle.read(1 << 20):
                hasher.update(block)
        _FILE_CACHE[key] = hasher.hexdigest()[:DIGEST_LENGTH]
    return _FILE_CACHE[key]
