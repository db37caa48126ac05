"""Settings of parts and stages: which of them are part of a key, and what they stand for there.

Three kinds: *what a row is* (in the part's key), *which rows are wanted* (in the unit's key
only, see `stages/entries.py`), *where and how fast* (in no key: `Where`, and settings marked
`SPEED`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo
from pydantic.functional_validators import BeforeValidator

from fusechat.digests import digest_path


class Where(BaseModel):
    """Where and how fast a part runs; comes from the cluster file and is in no key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    processes: int | None = Field(default=None, ge=1)
    """Worker processes; none means one per core."""
    threads: int = Field(default=1, ge=1)
    """Threads of numerical libraries in each worker."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, or `auto`: the first accelerator, else the CPU."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Training rows per forward pass; none means the trainer chooses."""


class _Content:
    """Marks a setting whose value in a key is the digest of the file or folder it names."""


class _Speed:
    """Marks a setting that says how fast, not what: it enters no key."""


CONTENT, SPEED = _Content(), _Speed()


def _resolve(value: Any, info: ValidationInfo) -> Any:
    base = (info.context or {}).get("base")
    if isinstance(value, str) and base is not None and not Path(value).is_absolute():
        return str((Path(base) / value).resolve())
    return value


def _resolve_if_there(value: Any, info: ValidationInfo) -> Any:
    resolved = _resolve(value, info)
    looks_local = isinstance(value, str) and value.startswith((".", "/", "~"))
    return (
        resolved
        if isinstance(resolved, str) and (looks_local or Path(resolved).exists())
        else value
    )


ContentPath = Annotated[str, BeforeValidator(_resolve), CONTENT]
"""A file or folder, relative to the recipe; keyed by its content."""
ModelName = Annotated[str, BeforeValidator(_resolve_if_there), CONTENT]
"""A model folder (relative to the recipe; keyed by content), a hub name, or a trained model of
the plan (`target`, `train.sft`, `train.dpo`)."""


def settings_key(model: BaseModel) -> dict[str, Any]:
    """The settings of `model` that differ from their defaults, as JSON for a key.

    A file or folder stands for its content, a part inside for its own key, and settings
    marked SPEED are left out; so a new setting whose default keeps the old meaning, a moved
    file or a faster machine keep the old keys.
    """
    out: dict[str, Any] = {}
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        if SPEED in info.metadata or value == info.get_default(call_default_factory=True):
            continue
        out[name] = _content_of(value) if CONTENT in info.metadata else _plain(value)
    return out


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        own_key = getattr(value, "key", None)  # a part's key names the part, too
        return own_key() if callable(own_key) else settings_key(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value


def _content_of(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_content_of(inner) for inner in value]
    path = Path(value) if isinstance(value, str) else None
    return (
        {"content": digest_path(path)} if path and path.is_absolute() and path.exists() else value
    )
