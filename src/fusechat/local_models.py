"""Loading models into this process: device, number format, context, faults of a folder.

Shared by all that runs a model here (the source `hf`, the annotators `reward_model` and `armorm`).
Nothing heavy is imported before a model is loaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field

from fusechat.chat import tokenizer_fault
from fusechat.errors import MissingExtraError, PartError
from fusechat.parts import Where

if TYPE_CHECKING:
    import torch

_CPU_BFLOAT16 = ("avx512_bf16", "amx_bf16")


def _resolve_dtype(value: str) -> str:
    return fast_dtype() if value == "auto" else value


Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    AfterValidator(_resolve_dtype),
    Field(validate_default=True),
]
"""Number format of the weights. `auto` becomes, when the recipe is read, `bfloat16` where this
machine computes in it (a GPU, or a CPU with avx512_bf16 or AMX) and `float32` elsewhere; what it
became enters the key, since it decides the results."""


def fast_dtype() -> str:
    """`bfloat16` where this machine has hardware for it, else `float32`; imports nothing heavy."""
    if Where().on_accelerator():
        return "bfloat16"
    info = Path("/proc/cpuinfo")
    flags = info.read_text("utf-8") if info.is_file() else ""
    return "bfloat16" if any(flag in flags for flag in _CPU_BFLOAT16) else "float32"


def is_local(model: str) -> bool:
    """Whether a `ModelName` is a folder, not a hub name or a model of the plan."""
    return Path(model).is_absolute()


def model_name(model: str) -> str:
    """A short stable name of a model: its hub name, or its folder's (its unit's, if trained)."""
    path = Path(model)
    if not path.is_absolute():
        return model
    if path.parent.name == "snapshots":  # the hub's cache: models--org--name/snapshots/commit
        return path.parent.parent.name.removeprefix("models--").replace("--", "/")
    return path.parent.name if path.name == "model" and path.parent.name else path.name


_OTHER_KIND = {
    "chat": (
        re.compile("For(Sequence|Token)Classification|ForQuestionAnswering|ForMaskedLM|Reward"),
        "is no chat model, and would answer at random. Give a causal language model.",
    ),
    "reward": (
        re.compile("ForCausalLM"),
        "has no trained reward head. Give a sequence-classification model, not a chat model.",
    ),
}
"""By kind: architectures that are of another kind, and the mend."""


def model_faults(model: str, kind: Literal["chat", "reward"]) -> Iterator[str]:
    """What a model folder lacks, each with the mend; nothing for a hub name.

    Looks at file names and small files only, so that a recipe can be checked without loading.
    """
    folder = Path(model)
    if not is_local(model) or not folder.exists():
        return
    if not (folder / "config.json").is_file():
        yield (
            f"{model} is not a Hugging Face model folder: it has no config.json. "
            "Give the folder that save_pretrained() wrote."
        )
    elif fault := _config_fault(folder, kind):
        yield fault
    weights = [path for pattern in _WEIGHTS for path in folder.glob(pattern)]
    if not weights and (folder / "config.json").is_file():
        yield f"{model} has no weights (*.safetensors). Copy the whole folder, or fetch it again."
    if fault := tokenizer_fault(model):
        yield fault


_WEIGHTS = ("*.safetensors", "*.bin", "*.safetensors.index.json")


def _config_fault(folder: Path, kind: str) -> str | None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        made_as = ", ".join(config.get("architectures") or ())
    except (ValueError, AttributeError, TypeError):
        return f"{folder / 'config.json'} is not JSON with a model's settings. Fetch it again."
    other, mend = _OTHER_KIND[kind]
    return f"{folder} ({made_as}) {mend}" if other.search(made_as) else None


def architectures(model: str) -> tuple[str, ...]:
    """The classes that a model folder's config.json names; none where it cannot be read."""
    try:
        config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
        return tuple(map(str, config.get("architectures") or ()))
    except (OSError, ValueError, AttributeError, TypeError):
        return ()


def import_torch(what: str) -> Any:
    """The torch module; raises `MissingExtraError` in the name of `what`."""
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(what, str(error.name or "torch"), "local") from error
    return torch


@contextmanager
def using(where: Where, what: str) -> Iterator[torch.device]:
    """Sets the thread count while open, and gives the device; puts the count back after."""
    torch = import_torch(what)
    before = torch.get_num_threads()
    torch.set_num_threads(where.threads)
    try:
        yield torch.device(device_name(where, torch))
    finally:
        torch.set_num_threads(before)


def device_name(where: Where, torch: Any) -> str:
    """The device of `where`; raises `PartError` for a GPU that is not there."""
    if where.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if where.device.startswith("cuda") and not torch.cuda.is_available():
        raise PartError(
            f"device '{where.device}' is not there: torch {torch.__version__} sees no GPU. "
            "Say device: cpu in the cluster file, or install torch for your GPU."
        )
    return where.device


def load(loader: Callable[..., Any], model: str, dtype: str, device: Any, **extra: Any) -> Any:
    """A model in evaluation mode on `device`; `loader` is an Auto class's `from_pretrained`.

    Raises `PartError` naming the model where it cannot be loaded. Gives what `loader` gives:
    with `output_loading_info=True` a pair of model and loading info.
    """
    import torch
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        loaded = loader(model, dtype=getattr(torch, dtype), **extra)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise PartError(
            f"the model {model} cannot be loaded: {str(error).rstrip('.')}. Give a folder that "
            "save_pretrained() wrote, or a hub name that is in the local cache."
        ) from error
    network = loaded[0] if isinstance(loaded, tuple) else loaded
    network.to(device).eval().requires_grad_(False)
    return loaded


def context_length(config: Any) -> int | None:
    """Most tokens that a model takes, prompt and answer together; None where it does not say."""
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(length) if isinstance(length, int) and length > 0 else None
