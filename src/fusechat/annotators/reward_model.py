"""The annotator `reward_model`: any sequence classifier with one label, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fusechat import chat
from fusechat.annotators._scoring import Body, Judge, RewardPart, Verdict, pad_id
from fusechat.errors import PartError
from fusechat.local_models import architectures, load

if TYPE_CHECKING:
    import torch


class RewardModel(RewardPart):
    """A reward model: any transformers sequence classifier with one label.

    The value is the classifier's logit, on the model's own scale, at the last token of the
    conversation as its own chat template writes it. The head is computed in float32 whatever
    the `dtype` of the body. Cut, failed and empty responses, and conversations longer than the
    model takes, are unscorable.
    """

    def faults(self) -> Iterator[tuple[str, str]]:
        """What a model folder lacks, and a model that has an annotator of its own."""
        yield from super().faults()
        if "LlamaForRewardModelWithGating" in architectures(self.model):
            yield "use", f"{self.model} is an ArmoRM, which has heads of its own. Use armorm."

    def _judge(self, device: torch.device) -> Judge:
        from transformers import AutoModelForSequenceClassification

        tokenizer = chat.load_tokenizer(self.model)
        model, info = load(
            AutoModelForSequenceClassification.from_pretrained,
            self.model,
            self.dtype,
            device,
            output_loading_info=True,
        )
        _check_head(self.model, model, info)
        body, head = _parts_of(model, pad_id(tokenizer, model.config))
        return Judge(self, tokenizer, body, head, {})


def _check_head(name: str, model: Any, info: dict[str, Any]) -> None:
    if missing := sorted(info["missing_keys"]):
        raise PartError(
            f"{name} has no trained reward head (its weights lack {', '.join(missing[:3])}). "
            "Give a sequence-classification model, not a chat model."
        )
    if model.config.num_labels != 1:
        raise PartError(
            f"{name} has {model.config.num_labels} labels; a reward model has one. Give a "
            "model with num_labels 1 in its config.json."
        )


def _parts_of(model: Any, pad: int) -> tuple[Body, _Linear | _Own]:
    import torch

    head = getattr(model, "score", None)
    if not isinstance(head, torch.nn.Linear):  # an encoder, which reads its first token
        return Body(model, pad, "padded", decoder=False), _Own()
    bias = None if head.bias is None else head.bias.float()
    # The stock class looks for the last token by pad id, which errs where that is also EOS.
    return Body(model.base_model, pad, "padded"), _Linear(head.weight.float(), bias)


@dataclass(frozen=True)
class _Linear:
    """A linear layer on the last token."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    def points(self, messages: chat.Messages, ids: Sequence[int]) -> tuple[int, ...]:
        return (len(ids) - 1,)

    def verdicts(self, states: torch.Tensor) -> list[Verdict]:
        import torch

        values = torch.nn.functional.linear(states[:, 0], self.weight, self.bias)
        return [Verdict(float(value)) for value in values[:, 0]]

    def notes(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class _Own:
    """The head of an encoder, which is inside its body."""

    def points(self, messages: chat.Messages, ids: Sequence[int]) -> tuple[int, ...]:
        return (0,)

    def verdicts(self, states: torch.Tensor) -> list[Verdict]:
        return [Verdict(float(value)) for value in states[:, 0, 0]]

    def notes(self) -> dict[str, Any]:
        return {}
