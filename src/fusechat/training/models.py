"""Model folders: loading one to train, and writing folders that are whole or not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fusechat.errors import MissingExtraError, TrainingError
from fusechat.faultpoints import reach
from fusechat.files import read_json, sync_folder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from fusechat.stages.train_settings import TrainingSettings


def load_model(
    folder: Path, device: torch.device, gradient_checkpointing: bool = False
) -> PreTrainedModel:
    """The model of a folder (or of a hub name in the local cache), in float32, dropout off.

    Raises `TrainingError` where there is no model, or an adapter of one; `MissingExtraError`
    without transformers.
    """
    _refuse_adapter(folder)
    try:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM
    except ImportError as error:
        raise MissingExtraError("training", "transformers", "train") from error
    try:
        model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    except (OSError, ValueError, SafetensorError) as error:
        raise TrainingError(
            f"the model of {folder} cannot be loaded: {error}. Name a folder that transformers "
            "loads as a causal language model."
        ) from error
    model.eval()
    if gradient_checkpointing:
        _checkpoint_gradients(model)
    moved: PreTrainedModel = model.to(device)
    return moved


def _refuse_adapter(folder: Path) -> None:
    config = folder / "adapter_config.json"
    if config.is_file():
        base = read_json(config).get("base_model_name_or_path")
        raise TrainingError(
            f"{folder} is no model but an adapter of {base or 'a model that it does not name'}. "
            "Merge the two first (peft: PeftModel.from_pretrained(model, adapter)"
            ".merge_and_unload().save_pretrained(folder)), and name that folder."
        )


def _checkpoint_gradients(model: PreTrainedModel) -> None:
    from transformers.modeling_layers import GradientCheckpointingLayer

    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            # Only the layer itself counts as training, so that dropout inside it stays off.
            module.training = True


def mixed_precision(
    settings: TrainingSettings, device: torch.device
) -> Callable[[], AbstractContextManager[object]] | None:
    """Makes the context that forward passes run in, or None for plain float32."""
    import torch

    if settings.dtype == "float32":
        return None
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


def make_optimizer(model: PreTrainedModel, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW as Hugging Face's trainers set it up: no decay on biases and norms (vectors)."""
    import torch

    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon,
        fused=True,
    )


def publish(folder: Path, write: Callable[[Path], None], point: str) -> None:
    """Make `folder` with what `write` puts into it, wholly or not at all.

    It is written beside its place, fsynced and renamed; an older folder of that name gives
    way. Fault points: `point`.written before the rename, `point` after it.
    """
    temporary, old = (folder.with_name(f".{folder.name}.{end}") for end in ("tmp", "old"))
    for stale in (temporary, old):
        shutil.rmtree(stale, ignore_errors=True)
    temporary.mkdir(parents=True)
    write(temporary)
    _sync_tree(temporary)
    reach(f"{point}.written")
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)
    reach(point)


def _sync_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
    for inner in [*(p for p in folder.rglob("*") if p.is_dir()), folder]:
        sync_folder(inner)


@contextmanager
def without_bars() -> Iterator[None]:
    """Inside, transformers draws no progress bars of its own for reading and writing weights."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def repeatable(device: torch.device, threads: int) -> Iterator[None]:
    """Inside, the same work gives the same bytes on the CPU: fixed threads, no racing sums.

    On an accelerator the kernels are left as they are, and results may differ in last bits.
    """
    import torch

    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(before[1] or device.type == "cpu")
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
