"""Settings of parts and stages: which of them are part of a key, and what they stand for there.

Three kinds: *what a row is* (in the part's key), *which rows are wanted* (in the unit's key
only, see `stages/entries.py`), *where and how fast* (in no key: `Where`, and settings marked
`SPEED`).
"""

from __future__ import annotations

import importlib.util
import os
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo
from pydantic.functional_validators import BeforeValidator

from fusechat.digests import digest_path


class Price(BaseModel):
    """What a hosted source asks for a million tokens, in one currency for all sources."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: float = Field(ge=0)
    response: float = Field(ge=0)


class Where(BaseModel):
    """Where and how fast a part runs; comes from the cluster file and is in no key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    processes: int | None = Field(default=None, ge=1)
    """Worker processes; none means one per core, and one for a model on an accelerator."""
    threads: int = Field(default=1, ge=1)
    """Threads of numerical libraries in each worker."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, or `auto`: the first accelerator, else the CPU."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Training rows per forward pass of the padded engine; none means the trainer chooses."""
    micro_batch_tokens: int | None = Field(default=None, ge=1)
    """Training tokens per forward pass of the packed engine; none: what the device has room for."""
    attention: Literal["auto", "buckets", "flex", "varlen"] = "auto"
    """How the packed engine attends; `auto`: the fastest that agrees with `buckets` here."""
    ranks: int = Field(default=1, ge=1)
    """Processes of this machine that a training unit runs on, one for each GPU."""
    sharding: Literal["none", "fsdp2"] = "none"
    """Whether every rank of a training unit holds the whole model, or its share of it (FSDP 2)."""
    base_urls: tuple[str, ...] = ()
    """Servers of an `endpoint`, such as `http://10.0.0.7:8000/v1`; without it the recipe's."""
    api_key_env: str | None = None
    """Name of the environment variable with the servers' key; without it the recipe's."""
    concurrency: int | None = Field(default=None, ge=1)
    """Most requests in flight over all servers of a source; without it the recipe's."""
    request_timeout: float | None = Field(default=None, gt=0)
    """Seconds for one request; without it the recipe's."""
    engine: dict[str, Any] = {}
    """Options of `vllm serve`, such as `tensor_parallel_size: 4`; over the recipe's."""
    command: tuple[str, ...] = ()
    """The program of a managed server, such as `[/opt/vllm/bin/vllm]`; without it `vllm`."""
    price: Price | None = None
    """For `plan` and `--max-cost`."""
    gpus: float | None = Field(default=None, ge=0)
    """GPUs that the unit holds while it runs: for `plan` (GPU hours) and for Ray."""
    gpu: str | None = None
    """Which GPU a training unit gets, by name (`h100`) or memory (`80GB`): for `plan` and `doctor`,
    where it is not the one of this machine."""
    resources: dict[str, float] = {}
    """What a Ray actor of this unit needs, such as `{CPU: 4, GPU: 1}`."""
    least_margin: float | None = Field(default=None, gt=0)
    """Smallest margin of an annotator's scores that a build rule accepts; the run sets it."""

    def on_accelerator(self) -> bool:
        """Whether `device` is an accelerator; told from device files, without loading torch."""
        there = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists()
        return there if self.device == "auto" else self.device != "cpu"


FETCH = "Fetch it first: hf download"
"""In the message of a model that is not here yet."""
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


class _Content:
    """Marks a setting whose value in a key is the digest of the file or folder it names."""


class _Model:
    """Marks a setting that names a model, which must be here before a run begins."""


class _Speed:
    """Marks a setting that says how fast, not what: it enters no key."""


class _Elsewhere:
    """Marks settings of another unit, written here for their reader: they are in that one's key."""


PLANNED_MODELS = ("target", "train.sft", "train.dpo")
TRAINED_BY = {"train.sft": "train/sft", "train.dpo": "select/dpo"}
"""A trained model's name -> the unit whose `model/` it is."""
CONTENT, MODEL, SPEED, ELSEWHERE = _Content(), _Model(), _Speed(), _Elsewhere()


def resolve_path(value: Any, info: ValidationInfo) -> Any:
    base = (info.context or {}).get("base") or Path.cwd()
    if isinstance(value, str) and not Path(value).is_absolute():
        return str((Path(base) / value).resolve())
    return value


def _resolve_model(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str) or value in PLANNED_MODELS:
        return value
    resolved = resolve_path(value, info)
    if value.startswith((".", "/", "~")) or Path(resolved).exists():
        return resolved
    snapshot = hub_snapshot(value)
    return str(snapshot) if snapshot else value


def _resolve_if_there(value: Any, info: ValidationInfo) -> Any:
    resolved = resolve_path(value, info)
    there = isinstance(resolved, str) and Path(resolved).exists()
    return resolved if there or str(value).startswith((".", "/", "~")) else value


def hub_snapshot(name: str) -> Path | None:
    """The folder of a hub model in the local cache, at its `main` commit; None where it is not."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    folder = cache / f"models--{name.replace('/', '--')}"
    main = folder / "refs" / "main"
    if not HUB_NAME.fullmatch(name) or not main.is_file():
        return None
    snapshot = folder / "snapshots" / main.read_text(encoding="utf-8").strip()
    return snapshot if snapshot.is_dir() else None


ContentPath = Annotated[str, BeforeValidator(resolve_path), CONTENT]
"""A file or folder, relative to the recipe, or without one to the current folder; keyed by its
content."""
ModelName = Annotated[str, BeforeValidator(_resolve_model), CONTENT, MODEL]
"""A model folder (relative to the recipe; keyed by content), a hub name (its snapshot in the local
cache; keyed by its commit), or a trained model of the plan."""


HubSetName = Annotated[str, BeforeValidator(_resolve_if_there), CONTENT]
"""A data set's hub id, or a folder of one, relative to the recipe."""


def settings_key(model: BaseModel) -> dict[str, Any]:
    """The settings of `model` that differ from their defaults, as JSON for a key.

    A file or folder stands for its content, a part inside for its own key, and settings
    marked SPEED or ELSEWHERE are left out; so a new setting whose default keeps the old meaning,
    a moved file or a faster machine keep the old keys.
    """
    out: dict[str, Any] = {}
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        left_out = SPEED in info.metadata or ELSEWHERE in info.metadata
        if left_out or value == info.get_default(call_default_factory=True):
            continue
        content = CONTENT in info.metadata or names_content(info.annotation)
        out[name] = _content_of(value) if content else _plain(value)
    return out


def names_content(hint: Any) -> bool:
    """Whether a type has a path of content inside, as `ContentPath | None` has."""
    return CONTENT in getattr(hint, "__metadata__", ()) or any(
        names_content(inner) for inner in typing.get_args(hint)
    )


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
    if isinstance(value, Mapping):
        return {str(name): _content_of(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_content_of(inner) for inner in value]
    path = Path(value) if isinstance(value, str) else None
    if path is None or not path.is_absolute() or not path.exists():
        return value
    if path.parent.name == "snapshots" and re.fullmatch("[0-9a-f]{40}", path.name):
        return {"commit": path.name}  # of the hub's cache: the commit says what it holds
    return {"content": digest_path(path)}


def model_fault(value: str) -> str | None:
    """Why a model that is no folder cannot be had, with the mend; None where it can."""
    if Path(value).is_absolute() or value in PLANNED_MODELS:
        return None
    if not HUB_NAME.fullmatch(value):
        return f"there is no folder '{value}' beside the recipe, and it is no hub name (org/name)."
    return (
        f"'{value}' is neither a folder beside the recipe nor in the local hub cache. "
        f"{FETCH} {value}"
    )


def package_fault(package: str, extra: str) -> str | None:
    """Why an optional package cannot be used, with the mend; None where it is installed."""
    if importlib.util.find_spec(package) is not None:
        return None
    return (
        f"the package '{package}' is needed and not installed. Install it with: "
        f"pip install 'fusechat[{extra}]'"
    )
