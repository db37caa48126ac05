"""`sharding: fsdp2`: every rank holds its share of weights, gradients and moments.

PyTorch's FSDP 2 (`fully_shard`): each decoder layer gathers its weights when it is at work, and
what stands outside the layers is gathered for the whole pass. Gradients are summed over ranks in
float32, and stay in the shares where the optimizer updates them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fusechat.errors import MissingExtraError, TrainingError
from fusechat.training.ranks import Ranks

if TYPE_CHECKING:
    import torch


def check_sharding(sharding: str, ranks: Ranks) -> None:
    """Raises `TrainingError` where there is one rank only, `MissingExtraError` without FSDP 2."""
    if sharding == "none":
        return
    if ranks.world == 1:
        raise TrainingError(
            f"sharding: {sharding} shares a model among ranks, and there is one. Set ranks: 2 or "
            "more in the cluster file, start several with torchrun, or take sharding: none."
        )
    try:
        from torch.distributed.fsdp import fully_shard  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"sharding: {sharding}", "torch>=2.11", "train") from error


def shard(engine: Any, ranks: Ranks, halved: bool) -> None:
    """Share the engine's model among the ranks, in place; its parameters become DTensors.

    `halved`: forward passes are in mixed precision, so that layers gather bfloat16 weights. Those
    outside of layers (embeddings, head) stay in float32.
    """
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(ranks.device.type, (ranks.world,))
    whole = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    low = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    root = root_of(engine)
    for layer in _layers(root):
        fully_shard(layer, mesh=mesh, mp_policy=low if halved else whole)
    fully_shard(root, mesh=mesh, mp_policy=whole)
    for module in root.modules():
        if isinstance(module, FSDPModule):
            # Sums, not means: a step's loss is divided by all its rows already.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def root_of(engine: Any) -> Any:
    """The module whose `forward` an engine calls."""
    module = getattr(engine, "module", None)
    return engine.model if module is None else module


def reshard(engine: Any) -> None:
    """Let go of weights that a pass without gradients has gathered and not given back."""
    root = root_of(engine)
    if hasattr(root, "reshard"):
        root.reshard()


def _layers(root: torch.nn.Module) -> list[torch.nn.Module]:
    from transformers.modeling_layers import GradientCheckpointingLayer

    found = [m for m in root.modules() if isinstance(m, GradientCheckpointingLayer)]
    if not found:
        raise TrainingError(
            "sharding: fsdp2 does not know the layers of this model. Take sharding: none."
        )
    return found


def whole_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor that may be shared among ranks; every rank must call this."""
    from torch.distributed.tensor import DTensor

    if not isinstance(tensor, DTensor):
        return tensor.detach()
    whole: torch.Tensor = tensor.full_tensor()
    return whole.detach()


def gather(tensors: Mapping[str, torch.Tensor], ranks: Ranks) -> dict[str, torch.Tensor]:
    """Whole tensors on the CPU of rank 0, one after the other; the other ranks get none.

    Names of one and the same tensor (tied weights) get one tensor, too.
    """
    found: dict[int, torch.Tensor] = {}
    out: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if id(tensor) not in found:
            whole = whole_tensor(tensor)
            found[id(tensor)] = whole.cpu() if ranks.main else whole.new_empty(0)
        if ranks.main:
            out[name] = found[id(tensor)]
    return out


def like(parameter: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """`whole` shared among the ranks as `parameter` is; all ranks have the same `whole`."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(parameter, DTensor) or whole.dim() == 0:
        return whole
    moved = whole.to(parameter.device, parameter.dtype)
    return distribute_tensor(moved, parameter.device_mesh, parameter.placements, src_data_rank=None)
