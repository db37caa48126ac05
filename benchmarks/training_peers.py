"""TRL's trainers as the peer of `training.py`: whole optimizer steps at given settings."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")

import torch
import trl.trainer.utils as trl_utils
from datasets import Dataset
from tokenizers import Tokenizer, models
from training_work import Setup
from transformers import PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from fusechat.training.examples import Example

BETA = 10.0


@dataclass(frozen=True)
class Flags:
    """How TRL is asked to train."""

    micro_batch: int = 8
    checkpointing: bool = False
    precompute: bool = True
    """Reference log-probabilities beforehand instead of a second model in each step."""
    by_length: bool = False
    """Micro-batches of like length: what `group_by_length` gives at its best."""
    compact: bool = True
    """The head on response positions only: what TRL does on CUDA, and on a CPU only when told."""
    padding_free: bool = False
    """SFT only: a micro-batch as one row with position ids."""
    attention: str = "sdpa"

    def __str__(self) -> str:
        words = [f"micro-batch {self.micro_batch}"]
        words += [w for w in ("checkpointing", "by_length", "padding_free") if getattr(self, w)]
        words += [] if self.precompute else ["reference in each step"]
        words += [] if self.attention == "sdpa" else [self.attention]
        return ", ".join(words).replace("_", " ")


STOCK = Flags(checkpointing=True, precompute=False, compact=False)
"""TRL's defaults: micro-batches of 8, checkpointing, the reference model in each step."""


class _Dpo(DPOTrainer):  # type: ignore[misc]
    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset  # token ids already


class _Sft(SFTTrainer):  # type: ignore[misc]
    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


class Peer:
    """TRL's trainer over a model of ours; `step` is one optimizer step without the update."""

    def __init__(self, setup: Setup, model: Any, reference: Any, example: Example) -> None:
        self.setup, self.flags = setup, Flags()
        self.trainer = _trainer(setup, model, reference, [_row(example)])
        self.model = self.trainer.model

    def use(self, flags: Flags) -> None:
        """Train by these settings from here on."""
        self.flags = flags
        self.model.set_attn_implementation(flags.attention)
        self.trainer.precompute_ref_logps = flags.precompute
        self.trainer.data_collator.padding_free = flags.padding_free
        if flags.checkpointing:
            kwargs = {"use_reentrant": False}
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kwargs)
            self.model.train()
        else:
            self.model.gradient_checkpointing_disable()
            self.model.eval()  # nothing here has dropout

    def reference_pass(self, step: Sequence[Example]) -> Any:
        """The reference's log-probabilities of a step, where they are made beforehand."""
        if self.setup.sides == 1 or not self.flags.precompute:
            return None
        with self._head():
            found = [
                self.trainer.compute_ref_log_probs(self.trainer.ref_model, self._batch(rows))
                for rows in self._cut(step)
            ]
        return [torch.stack(pair, 1) for pair in found]

    def step(self, step: Sequence[Example], known: Any) -> torch.Tensor:
        """Leave the gradient of the step on the parameters; returns its loss."""
        total = torch.zeros((), dtype=torch.float64, device=self.setup.device)
        counted = torch.tensor(sum(text.length for e in step for text in e.texts))
        for number, rows in enumerate(self._cut(step)):
            batch = self._batch(rows)
            if known is not None:
                batch["ref_chosen_logps"], batch["ref_rejected_logps"] = known[number].unbind(1)
            with self._head():
                loss = self._loss(batch, rows, step, counted)
            loss.backward()
            total += loss.detach()
        return total

    def _loss(
        self, batch: Any, rows: Sequence[Example], step: Sequence[Example], counted: torch.Tensor
    ) -> Any:
        with self.trainer.accelerator.autocast():
            if self.setup.sides == 1:
                return self.trainer.compute_loss(self.model, batch, num_items_in_batch=counted)
            return self.trainer.compute_loss(self.model, batch) * len(rows) / len(step)

    def _cut(self, step: Sequence[Example]) -> list[list[Example]]:
        rows = sorted(step, key=lambda e: -e.longest) if self.flags.by_length else list(step)
        size = self.flags.micro_batch
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def _batch(self, rows: Sequence[Example]) -> dict[str, Any]:
        made = self.trainer.data_collator([_row(example) for example in rows])
        return {
            name: value.to(self.setup.device) if torch.is_tensor(value) else value
            for name, value in made.items()
        }

    @contextlib.contextmanager
    def _head(self) -> Iterator[None]:
        before = trl_utils._use_triton
        if self.flags.compact and self.setup.device.type == "cpu":
            trl_utils._use_triton = lambda device: True
        try:
            yield
        finally:
            trl_utils._use_triton = before


def sweep(setup: Setup) -> list[Flags]:
    """The settings of TRL among which its best is looked for."""
    sizes = [size for size in (1, 2, 4, 8, 16) if size <= setup.rows]
    found = [Flags(size, by_length=ordered) for size in sizes for ordered in (False, True)]
    if setup.device.type == "cuda":
        found += [replace(flags, checkpointing=True) for flags in found]
    if "gemma2" in setup.config:
        other = "flex_attention" if setup.device.type == "cuda" else "eager"
        found = [replace(flags, attention=other) for flags in found]
    return found


def padding_free(setup: Setup) -> list[Flags]:
    """The same for TRL's padding-free mode, which only SFT has."""
    sizes = [size for size in (1, 2, 4, 8, 16) if size <= setup.rows]
    return [Flags(size, padding_free=True) for size in sizes]


def _row(example: Example) -> dict[str, list[int]]:
    ids = [text.ids.tolist() for text in example.texts]
    start = example.texts[0].start
    if len(ids) == 1:
        return {"input_ids": ids[0], "labels": [-100] * start + ids[0][start:]}
    return {
        "prompt_ids": ids[0][:start],
        "chosen_ids": ids[0][start:],
        "rejected_ids": ids[1][start:],
    }


def _trainer(setup: Setup, model: Any, reference: Any, rows: list[Any]) -> Any:
    common: dict[str, Any] = {
        "output_dir": tempfile.mkdtemp(), "bf16": setup.device.type == "cuda",
        "use_cpu": setup.device.type == "cpu", "gradient_checkpointing": False,
        "report_to": "none", "max_length": None, "disable_tqdm": True,
    }  # fmt: skip
    more = {"train_dataset": Dataset.from_list(rows), "processing_class": _tokenizer()}
    if setup.sides == 1:
        return _Sft(model=model, args=SFTConfig(**common), **more)
    args = DPOConfig(beta=BETA, loss_type="sigmoid_norm", **common)
    return _Dpo(model=model, ref_model=reference, args=args, **more)


def _tokenizer() -> PreTrainedTokenizerFast:
    words = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        unk_token="<unk>",
    )  # fmt: skip
