"""SFT and DPO sets as LLaMA-Factory reads them, with `dataset_info.json` and its training files.

Its data format: `formatting: sharegpt` with OpenAI's role names as tags; pairs have `ranking:
true` (data/README.md of hiyouga/LLaMA-Factory). Its preference losses are those of its `pref_loss`
(src/llamafactory/hparams/finetuning_args.py): a loss that is none of them is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from fusechat.cards.data_card import Part, data_card
from fusechat.cards.lineage import Lineage
from fusechat.errors import Fault, RecipeError
from fusechat.files import sync_folder, write_atomic, write_json
from fusechat.stages.build_rows import BUILDS
from fusechat.stages.train_settings import DpoSettings, SftSettings, TrainingSettings
from fusechat.tables import read_dicts

LOSSES = {"dpo": "sigmoid"}
"""Our preference losses -> its `pref_loss`. It also knows hinge, ipo, kto_pair, orpo and simpo,
which are no losses of ours."""
TEMPLATES = (("llama-3", "llama3"), ("qwen3", "qwen3"), ("qwen", "qwen"), ("gemma-3", "gemma3"),
             ("gemma-2", "gemma2"), ("gemma", "gemma"), ("mistral", "mistral"))  # fmt: skip
TAGS = {"role_tag": "role", "content_tag": "content", "user_tag": "user",
        "assistant_tag": "assistant", "system_tag": "system"}  # fmt: skip
_TURNS = "turns do not alternate between user and assistant, which LLaMA-Factory asks for"


def export_llamafactory(run: Lineage, out: Path, sft_only: bool = False) -> dict[str, int]:
    """Write the sets of a run's build into `out`; returns their rows, and those left out.

    Rows that LLaMA-Factory cannot express stand in `left_out.jsonl` with the reason. Raises
    `RecipeError`, before anything is written, where the recipe's loss is none of its losses.
    """
    settings = _settings(run, sft_only)
    out.mkdir(parents=True, exist_ok=True)
    (out / "README.md").unlink(missing_ok=True)
    tables = ("sft",) if sft_only else ("sft", "dpo")
    builds = [run.folders[name] for name in BUILDS if name in run.folders]
    counts: dict[str, int] = {}
    left_out: list[dict[str, Any]] = []
    info: dict[str, Any] = {}
    for table in tables:
        rows = chain.from_iterable(_rows(one / table, table, left_out) for one in builds)
        counts[table] = _write_lines(out / f"{table}.jsonl", rows)
        info[_name(run, table)] = _info(table)
    _write_lines(out / "left_out.jsonl", iter(left_out))
    write_json(out / "dataset_info.json", info)
    for table, given in settings.items():
        head = "# llamafactory-cli train " + f"{table}.yaml\n"
        text = yaml.safe_dump(_training(run, table, given), sort_keys=False, allow_unicode=True)
        write_atomic(out / f"{table}.yaml", (head + _NOTES + text).encode())
    card = data_card(run, "SFT and DPO sets for LLaMA-Factory", _parts(counts), _HOW)
    write_atomic(out / "README.md", card.encode())
    return {**counts, "left_out": len(left_out)}


_NOTES = """\
# For one GPU: with more, divide gradient_accumulation_steps by their number. Run it in this folder.
# Set `template` to your model's: LLaMA-Factory has templates of its own. It cuts rows longer than
# cutoff_len, where fusechat leaves them out.
"""
_HOW = """\
## How to use it

In this folder: `llamafactory-cli train sft.yaml`, then `llamafactory-cli train dpo.yaml`. The sets
are described in `dataset_info.json`; `left_out.jsonl` has the rows that it cannot express."""


def _settings(run: Lineage, sft_only: bool) -> dict[str, TrainingSettings]:
    train = run.section("train")
    out: dict[str, TrainingSettings] = {}
    if isinstance(train.get("sft"), Mapping):
        out["sft"] = SftSettings.model_validate(train["sft"])
    if isinstance(train.get("dpo"), Mapping) and not sft_only:
        out["dpo"] = DpoSettings.model_validate(train["dpo"])
    allowed = {"sft": ("sft",), "dpo": tuple(LOSSES)}
    faults = [
        Fault(run.name, f"train.{table}.loss", _refusal(given.loss.part_name()))
        for table, given in out.items()
        if given.loss.part_name() not in allowed[table]
    ]
    if faults:
        raise RecipeError(faults)
    return out


def _refusal(loss: str) -> str:
    other = (
        "Train with TRL, which has it as loss_type sigmoid_norm (--to trl), or here"
        if loss == "length_normalized_dpo"
        else "Train here"
    )
    return (
        f"'{loss}' cannot be said in LLaMA-Factory: its pref_loss is sigmoid, hinge, ipo, "
        "kto_pair, orpo or simpo, and another loss would give another model. "
        f"{other}; or use the loss 'dpo' in the recipe; or export the SFT set alone: --sft-only."
    )


def _rows(table: Path, kind: str, left_out: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in read_dicts(table):
        turns = [{"role": turn["role"], "content": turn["content"]} for turn in row["messages"]]
        if not _alternate([turn["role"] for turn in turns]):
            place = {"table": kind, "prompt_id": row["prompt_id"], "reason": _TURNS}
            left_out.append({**place, "messages": turns})
            continue
        own = {"prompt_id": row["prompt_id"], "source": row["source"], "domain": row["domain"]}
        if kind == "sft":
            answer = {"role": "assistant", "content": row["response"]}
            yield {"messages": [*turns, answer], **own}
        else:
            sides = {
                side: {"role": "assistant", "content": row[side]} for side in ("chosen", "rejected")
            }
            yield {"messages": turns, **sides, **own}


def _alternate(roles: list[str]) -> bool:
    if roles[:1] == ["system"]:
        roles = roles[1:]
    wanted = ["user", "assistant"] * (len(roles) // 2 + 1)
    return len(roles) % 2 == 1 and roles == wanted[: len(roles)]


def _write_lines(path: Path, rows: Iterator[Mapping[str, Any]]) -> int:
    begun, count = path.with_name(f".{path.name}.tmp"), 0
    with begun.open("w", encoding="utf-8") as handle:
        for count, row in enumerate(rows, start=1):  # noqa: B007 - the count is wanted
            handle.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        handle.flush()
        os.fsync(handle.fileno())
    begun.replace(path)
    sync_folder(path.parent)
    return count


def _name(run: Lineage, table: str) -> str:
    return f"{run.name}_{table}"


def _info(table: str) -> dict[str, Any]:
    columns = {"messages": "messages"}
    if table == "dpo":
        columns |= {"chosen": "chosen", "rejected": "rejected"}
    ranking = {"ranking": True} if table == "dpo" else {}
    return {
        "file_name": f"{table}.jsonl",
        "formatting": "sharegpt",
        **ranking,
        "columns": columns,
        "tags": TAGS,
    }


def _training(run: Lineage, table: str, given: TrainingSettings) -> dict[str, Any]:
    target = run.target()
    base = target.model if target else "YOUR-MODEL"
    after = table == "dpo" and isinstance(run.section("train").get("sft"), Mapping)
    warm = given.warmup_steps
    method: dict[str, Any] = {"stage": table, "do_train": True, "finetuning_type": "full"}
    if table == "sft":
        method["mask_history"] = True  # only the last turn is learned
    else:
        method |= {"pref_loss": LOSSES[given.loss.part_name()],
                   "pref_beta": getattr(given.loss, "beta", None)}  # fmt: skip
    return {
        "model_name_or_path": "saves/sft" if after else base,
        **method,
        "dataset_dir": ".",
        "dataset": _name(run, table),
        "template": template_of(base),
        "cutoff_len": given.max_length,
        "output_dir": f"saves/{table}",
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": given.global_batch_size,
        "learning_rate": given.learning_rate,
        "num_train_epochs": given.num_train_epochs,
        "lr_scheduler_type": given.lr_scheduler_type,
        **({"warmup_ratio": warm} if warm < 1 else {"warmup_steps": int(warm)}),
        "weight_decay": given.weight_decay,
        "adam_beta1": given.adam_beta1,
        "adam_beta2": given.adam_beta2,
        "max_grad_norm": given.max_grad_norm,
        "save_steps": given.save_steps,
        "bf16": given.dtype == "bfloat16",
        "seed": run.recipe.get("seed", 42),
    }


def template_of(model: str) -> str:
    """Its template for a model's name; `default` where none is known."""
    lower = model.lower()
    return next((template for part, template in TEMPLATES if part in lower), "default")


def _parts(counts: Mapping[str, int]) -> list[Part]:
    columns = {
        "sft": {"messages": "the conversation, the response last"},
        "dpo": {"messages": "the prompt", "chosen, rejected": "the two responses, as messages"},
    }
    common = {"prompt_id, source, domain": "where it comes from; LLaMA-Factory ignores them"}
    what = {"sft": "Responses to imitate.", "dpo": "Pairs of responses of one prompt."}
    return [
        Part(name, f"{name}.jsonl", rows, what[name], columns[name] | common)
        for name, rows in counts.items()
    ]
