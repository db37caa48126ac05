"""`lora`: low-rank adapters (Hu et al. 2021) by PEFT, over a frozen model.

    W' = W + scaling B A,  scaling = lora_alpha / r,  B = 0 before training

A checkpoint keeps A and B in `adapter/`, as PEFT writes them, and beside it the merged model, so
that every checkpoint is a model that transformers loads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusechat.digests import digest, digest_path
from fusechat.errors import MissingExtraError, TrainingError
from fusechat.files import read_json, write_json
from fusechat.training.ranks import Ranks
from fusechat.training.sharding import gather

if TYPE_CHECKING:
    import torch

    from fusechat.stages.train_settings import LoraSettings

ADAPTER = "adapter"
_WEIGHTS, _CONFIG, _BASE = "adapter_model.safetensors", "adapter_config.json", "base.json"


def add_adapters(model: Any, lora: LoraSettings, seed: int) -> Any:
    """`model` frozen and wrapped by PEFT, with new adapters in float32 that `seed` draws.

    Raises `MissingExtraError` without peft, `TrainingError` where the modules are not to be found.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingExtraError("lora", "peft", "train") from error
    import torch

    named = lora.target_modules
    config = LoraConfig(
        r=lora.r, lora_alpha=lora.lora_alpha,  # type: ignore[arg-type]
        lora_dropout=lora.lora_dropout,
        target_modules=named if isinstance(named, str) else list(named), task_type="CAUSAL_LM",
    )  # fmt: skip
    torch.manual_seed(seed)
    try:
        wrapped = get_peft_model(model, config)
    except ValueError as error:
        raise TrainingError(
            f"lora.target_modules: {error} Name modules of the model (q_proj, v_proj, ...), or "
            "all-linear."
        ) from error
    for _, layer in _layers(wrapped):
        if not isinstance(layer.base_layer, torch.nn.Linear):
            kind = type(layer.base_layer).__name__
            raise TrainingError(
                f"lora.target_modules names a {kind}, and only linear layers get adapters here. "
                "Take all-linear."
            )
        layer.lora_dropout.train(lora.lora_dropout > 0)
    return wrapped


def is_adapted(model: Any) -> bool:
    """Whether `add_adapters` made it."""
    return hasattr(model, "get_base_model")


def load_adapters(model: Any, checkpoint: Path, base: Path) -> None:
    """Put a checkpoint's adapters into `model`, which `add_adapters` made from `base`.

    Raises `TrainingError` where they were trained over another model.
    """
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    folder = checkpoint / ADAPTER
    if read_json(folder / _BASE)["base"] != base_digest(base):
        raise TrainingError(
            f"the adapters in {folder} were trained over another model than {base}: with this one "
            f"they mean nothing. Start from that model, or remove {checkpoint.parent} to train "
            "from the start."
        )
    found: Any = set_peft_model_state_dict(model, load_file(folder / _WEIGHTS))
    if found.unexpected_keys:
        raise TrainingError(f"the adapters in {folder} do not fit the model of {base}.")


def adapter_weights(model: Any, ranks: Ranks) -> dict[str, torch.Tensor]:
    """Weights of the adapters, by PEFT's names, on rank 0; every rank must call this."""
    from peft import get_peft_model_state_dict

    own = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gathered = gather(own, ranks)
    if not ranks.main:
        return {}
    found: dict[str, torch.Tensor] = get_peft_model_state_dict(
        model, state_dict=gathered, save_embedding_layers=False
    )
    return found


def merged_weights(model: Any, ranks: Ranks) -> dict[str, torch.Tensor]:
    """Weights of the plain model with the adapters added, on rank 0; every rank must call this.

    The model itself stays as it is: adding and taking away again would round its weights.
    """
    plain = model.get_base_model()
    weights = gather(plain.state_dict(keep_vars=True), ranks)
    if not ranks.main:
        return {}
    out = {
        name.replace(".base_layer.", "."): weight
        for name, weight in weights.items()
        if ".lora_" not in name
    }
    for name, layer in _layers(plain):
        scaling = layer.scaling["default"]
        a, b = (weights[f"{name}.lora_{side}.default.weight"] for side in "AB")
        out[f"{name}.weight"] = out[f"{name}.weight"] + scaling * (b @ a)
    return out


def _layers(model: Any) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield name, module


def save_adapters(
    folder: Path, model: Any, weights: Mapping[str, torch.Tensor], base: Path
) -> None:
    """Write into `folder` what PEFT reads, and of which model the adapters are."""
    from safetensors.torch import save_file

    whole = {name: weight.contiguous() for name, weight in weights.items()}
    save_file(whole, folder / _WEIGHTS, metadata={"format": "pt"})
    model.peft_config["default"].save_pretrained(str(folder))
    config = read_json(folder / _CONFIG)
    # PEFT keeps a set of names, whose order is another one in each process.
    names = config["target_modules"]
    config["target_modules"] = names if isinstance(names, str) else sorted(names)
    write_json(folder / _CONFIG, {**config, "base_model_name_or_path": str(base)})
    write_json(folder / _BASE, {"base": base_digest(base)})


def base_digest(base: Path) -> str:
    """Of a model folder's weights and configuration; of a hub's name that name."""
    if not base.is_dir():
        return str(base)
    files = sorted(p for p in base.iterdir() if p.suffix in (".safetensors", ".bin"))
    return digest([[path.name, digest_path(path)] for path in [*files, base / "config.json"]])
