"""The annotator `armorm`: RLHFlow/ArmoRM-Llama3-8B-v0.1, without its remote code.

A stock Llama gives the hidden states; the heads are ours. With `h` the state of the last token
and `g` that of the token at which the last assistant header begins:

    rewards = W h                                         one per objective
    gate    = softmax(mlp(g) / temperature) * logit_scale
    score   = sum_i gate_i (rewards M)_i                  M takes out the pull of length

The gate sees the prompt alone, so that all responses of a prompt are weighed alike. Source: the
model's `modeling_custom.py` (class `LlamaForRewardModelWithGating`) and "Interpretable Preferences
via Multi-Objective Reward Modeling and Mixture-of-Experts" (Wang et al., 2024).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusechat import chat
from fusechat.annotators._scoring import Body, Judge, RewardPart, UnreadableError, Verdict, pad_id
from fusechat.errors import PartError
from fusechat.local_models import architectures, is_local, load

if TYPE_CHECKING:
    import torch

ARCHITECTURE = "LlamaForRewardModelWithGating"
OBJECTIVES = (
    "helpsteer-helpfulness", "helpsteer-correctness", "helpsteer-coherence",
    "helpsteer-complexity", "helpsteer-verbosity", "ultrafeedback-overall_score",
    "ultrafeedback-instruction_following", "ultrafeedback-truthfulness", "ultrafeedback-honesty",
    "ultrafeedback-helpfulness", "beavertails-is_safe", "prometheus-score",
    "argilla-overall_quality", "argilla-judge_lm", "code-complexity", "code-style",
    "code-explanation", "code-instruction-following", "code-readability",
)  # fmt: skip
"""The published model's objectives, in the order of a score's details."""
HEADER = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
PUBLISHED_HEADER = (128009, 128006, 78191, 128007, 271)
"""`HEADER` in the ids of Llama-3's tokenizer; the published code knows it by them."""
_HEADER_TOKENS = ("<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>")
_DIGITS = 6
_INDEX = "model.safetensors.index.json"


class Armorm(RewardPart):
    """RLHFlow's ArmoRM: 19 objectives, weighed by a gate that reads the prompt.

    The value is the published preference score, usually 0.05 to 0.2. A score's details are
    `{"objectives": [...], "gate": [...]}`, in the order of `OBJECTIVES`: the raw rewards, and the
    weights that the gate gives them after the transform. Heads and their product are float32
    whatever the `dtype` of the body. Cut, failed and empty responses, and conversations longer
    than the model takes, are unscorable.
    """

    def faults(self) -> Iterator[tuple[str, str]]:
        """What a model folder lacks, and a model that is no ArmoRM."""
        yield from super().faults()
        made_as = architectures(self.model)
        if made_as and ARCHITECTURE not in made_as:
            yield (
                "model",
                f"{self.model} ({', '.join(made_as)}) is no {ARCHITECTURE}. Use reward_model.",
            )

    def _judge(self, device: torch.device) -> Judge:
        from transformers import LlamaConfig

        tokenizer = chat.load_tokenizer(self.model)
        config = LlamaConfig.from_pretrained(self.model)
        head = GatedHead.of(
            head_tensors(self.model),
            config.hidden_size,
            config.to_dict(),
            _header_of(tokenizer, self.model),
            self.model,
        )
        body, info = load(
            _backbone().from_pretrained, self.model, self.dtype, device, output_loading_info=True
        )
        if missing := sorted(info["missing_keys"]):
            raise PartError(
                f"{self.model} is not whole: its weights lack {', '.join(missing[:3])}. Fetch it "
                "again."
            )
        return Judge(
            self, tokenizer, Body(body, pad_id(tokenizer, config), "padded"), head.to(device), {}
        )


def _backbone() -> Any:
    """The stock Llama, silent about weights that are the heads'."""
    from transformers import LlamaModel

    names = ["^gating", "^regression_layer", "^reward_transform_matrix"]
    return type("LlamaModel", (LlamaModel,), {"_keys_to_ignore_on_load_unexpected": names})


def head_tensors(model: str) -> dict[str, torch.Tensor]:
    """All weights of a checkpoint that are not the backbone's, float32, by their names.

    Raises `PartError` where there are no safetensors.
    """
    from safetensors import SafetensorError, safe_open

    folder = Path(model)
    if not is_local(model):
        raise PartError(f"{model} is not in the local hub cache. Fetch it: hf download {model}")
    found: dict[str, torch.Tensor] = {}
    for path in _shards(folder):
        try:
            with safe_open(path, framework="pt") as file:
                names = [name for name in file.keys() if not name.startswith("model.")]  # noqa: SIM118
                found |= {name: file.get_tensor(name).float() for name in names}
        except (OSError, SafetensorError) as error:
            raise PartError(f"{path} cannot be read ({error}). Fetch it again.") from error
    return found


def _shards(folder: Path) -> list[Path]:
    index = folder / _INDEX
    if index.is_file():
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return [folder / name for name in sorted(set(places.values()))]
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    raise PartError(
        f"{folder} has neither model.safetensors nor {_INDEX}. Fetch the whole model, or convert "
        "its weights to safetensors."
    )


def _header_of(tokenizer: Any, model: str) -> tuple[int, ...]:
    """The ids of an assistant header with the end of the turn before it."""
    ids = tuple(tokenizer(HEADER, add_special_tokens=False)["input_ids"])
    end, start, close = (tokenizer.convert_tokens_to_ids(name) for name in _HEADER_TOKENS)
    alike = None not in (end, start, close) and ids[:2] == (end, start) and close in ids
    if not alike or (end == PUBLISHED_HEADER[0] and ids != PUBLISHED_HEADER):
        raise PartError(
            f"the tokenizer of {model} writes an assistant header as {list(ids)}, not as Llama-3 "
            "does, so the token that ArmoRM's gate reads cannot be found. Copy the tokenizer that "
            "is published with RLHFlow/ArmoRM-Llama3-8B-v0.1."
        )
    return ids


@dataclass(frozen=True)
class GatedHead:
    """The heads of ArmoRM; all tensors float32."""

    regression: torch.Tensor
    """`W [objectives, hidden]`."""
    transform: torch.Tensor
    """`M [objectives, objectives]`."""
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    """Weight and bias of the gate's layers, ReLU between them."""
    logit_scale: torch.Tensor
    """`[1]`."""
    temperature: float
    header: tuple[int, ...]

    @classmethod
    def of(
        cls,
        tensors: Mapping[str, torch.Tensor],
        hidden: int,
        config: Mapping[str, Any],
        header: tuple[int, ...],
        model: str,
    ) -> GatedHead:
        """From a checkpoint's weights and settings; raises `PartError` with all that is wrong."""
        wanted = expected_shapes(hidden, config)
        faults = [
            f"lacks {name} {list(shape)}" for name, shape in wanted.items() if name not in tensors
        ]
        faults += [f"has an unknown {name}" for name in sorted(tensors.keys() - wanted.keys())]
        faults += [
            f"has {name} of shape {list(tensors[name].shape)}, not {list(shape)}"
            for name, shape in wanted.items()
            if name in tensors and tuple(tensors[name].shape) != shape
        ]
        if faults:
            raise PartError(
                f"{model} is no whole ArmoRM: it {'; '.join(faults)}. Fetch "
                "RLHFlow/ArmoRM-Llama3-8B-v0.1 again; other classifiers go to reward_model."
            )
        count = int(config.get("gating_n_hidden", 3)) + 1
        names = [f"gating.layers.{n}" for n in range(count)]
        return cls(
            tensors["regression_layer.weight"],
            tensors["reward_transform_matrix"],
            tuple((tensors[f"{n}.weight"], tensors[f"{n}.bias"]) for n in names),
            tensors["gating.logit_scale"],
            float(config.get("gating_temperature", 10)),
            header,
        )

    def to(self, device: torch.device) -> GatedHead:
        """The same heads on a device."""
        layers = tuple((weight.to(device), bias.to(device)) for weight, bias in self.layers)
        moved = (self.regression.to(device), self.transform.to(device), layers)
        return GatedHead(*moved, self.logit_scale.to(device), self.temperature, self.header)

    def points(self, messages: chat.Messages, ids: Sequence[int]) -> tuple[int, ...]:
        """Where the header of the last answer begins, and the last token.

        Counted from the front by the prompt's own turns, so that nothing that an answer holds
        can move it.
        """
        found = -1
        for _ in range(1 + sum(turn["role"] == "assistant" for turn in messages)):
            found = _find(ids, self.header[1:], found + 1)
            if found < 0:
                break
        if found < 1 or ids[found - 1] != self.header[0]:
            raise UnreadableError("no assistant header for ArmoRM's gate to read")
        return found - 1, len(ids) - 1

    def gate(self, states: torch.Tensor) -> torch.Tensor:
        """Weights of the objectives, `[rows, objectives]`, from `states [rows, hidden]`."""
        import torch

        out = states
        for number, (weight, bias) in enumerate(self.layers):
            out = torch.nn.functional.linear(out, weight, bias)
            if number < len(self.layers) - 1:
                out = torch.relu(out)
        return torch.softmax(out / self.temperature, dim=-1) * self.logit_scale[0]

    def verdicts(self, states: torch.Tensor) -> list[Verdict]:
        """Scores of `states [rows, 2, hidden]`: the gate's token and the last one."""
        import torch

        gates = self.gate(states[:, 0])
        rewards = torch.nn.functional.linear(states[:, 1], self.regression)
        scores = (gates * (rewards @ self.transform)).sum(-1)
        rows = zip(scores.tolist(), rewards.tolist(), gates.tolist(), strict=True)
        return [Verdict(score, _details(reward, gate)) for score, reward, gate in rows]

    def notes(self) -> dict[str, Any]:
        """The objectives' names, in the order of a score's details."""
        count = len(self.regression)
        return {"objectives": list(OBJECTIVES) if count == len(OBJECTIVES) else count}


def expected_shapes(hidden: int, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the heads' weights in a checkpoint with these settings."""
    objectives = int(config.get("num_objectives", 19))
    width = int(config.get("gating_hidden_dim", 1024))
    inner = int(config.get("gating_n_hidden", 3))
    sizes = [hidden, *[width] * inner, objectives]
    shapes: dict[str, tuple[int, ...]] = {
        "regression_layer.weight": (objectives, hidden),
        "reward_transform_matrix": (objectives, objectives),
        "gating.logit_scale": (1,),
    }
    for number in range(inner + 1):
        shapes[f"gating.layers.{number}.weight"] = (sizes[number + 1], sizes[number])
        shapes[f"gating.layers.{number}.bias"] = (sizes[number + 1],)
    return shapes


def _find(ids: Sequence[int], wanted: tuple[int, ...], start: int) -> int:
    """Where `wanted` first occurs in `ids` from `start` on; -1 where it does not."""
    last = len(ids) - len(wanted)
    places = (at for at in range(start, last + 1) if tuple(ids[at : at + len(wanted)]) == wanted)
    return next(places, -1)


def _details(rewards: Sequence[float], gate: Sequence[float]) -> str:
    def short(values: Sequence[float]) -> list[float]:
        return [float(f"{value:.{_DIGITS}g}") for value in values]

    found = {"objectives": short(rewards), "gate": short(gate)}
    return json.dumps(found, separators=(",", ":"))
