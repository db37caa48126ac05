"""The objective benchmarks as tasks of lm-eval (EleutherAI's lm-evaluation-harness): a witness.

Prompts and decoding are ours; messages are rendered, answers sampled, read and scored by lm-eval's
own code alone: its `regex` filters and `exact_match`. So a score of ours can be held against one
that none of our code has computed.

Where both must agree: an answer in plain form, said once. Multiple choice: "The best answer is C."
(filter `first` is the first expression of the `paper` profile, `last` reads what `robust` reads).
Mathematics: the gold answer in one `\\boxed{}`, also with dollar signs, thousands commas, spaces,
`\\dfrac` or `\\left`. Where they need not: equal values that are written otherwise (`0.5` and
`\\frac{1}{2}`), units, letters that are stated in other words, a guess, the last number of a text
without a box, cut answers, which lm-eval grades like whole ones. There lm-eval says "wrong" more
often, and its share is a lower bound.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fusechat.files import write_atomic
from fusechat.parts import load_part
from fusechat.records import Prompt
from fusechat.stages.prompts import draw_order
from fusechat.tasks._benchmark import Benchmark, Family
from fusechat.tasks._data_files import is_private

PREFIX = "fusechat_"
"""How the names of the written tasks begin."""
_LETTER = r"answer is \(?([A-J])\)?"
_BOXED = r"boxed\{((?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})*)\}"
"""The content of a box, with braces in it to a depth of three."""
_NUMBER = r"(-?[0-9](?:[0-9.,]*[0-9])?)"
_CHOICE = {"first": (_LETTER, 0), "last": (_LETTER, -1)}
_NUMERIC = {"boxed": (_BOXED, -1), "last-number": (_NUMBER, -1)}
FILTERS: Mapping[str, Mapping[str, tuple[str, int]]] = {
    "mmlu_pro": _CHOICE, "mmlu_redux": _CHOICE, "mmlu": _CHOICE,
    "gsm8k": _NUMERIC, "amc23": _NUMERIC, "math": {"boxed": (_BOXED, -1)},
}  # fmt: skip
"""Benchmark -> lm-eval filter -> its expression, and which of its matches is taken."""
_SPELLING = (
    r"\s", r"\\!", r"\\?\$", r"\\(?:left|right)(?![a-z])", r"(?<=\\)[dt](?=frac)",
    r",(?=[0-9]{3})", r"\.$",
)  # fmt: skip
"""What of a mathematical answer's spelling says nothing, for `exact_match`."""
_CODE = (
    "runs code: lm-eval's metric for that (code_eval) is fetched from the hub, and runs it "
    "without a sandbox. 'fusechat grade code' grades others' answers."
)
_REASONS = {
    "humaneval": _CODE,
    "mbpp": _CODE,
    "live_code_bench": _CODE,
    "live_bench": "has graders of its own for each of its tasks; lm-eval has none of them.",
    "ifeval": "lm-eval has its own task 'ifeval' with the publisher's checks, which fetch NLTK's "
    "data; filters cannot say them.",
}
_PRIVATE = "its publisher asks that no item be shown in plain text, and tasks are text files."
_JUDGED = "a judge model grades it."
_SEED = 42


@dataclass(frozen=True)
class Exported:
    """What became of one benchmark."""

    name: str
    items: int = 0
    """Prompts that were written."""
    left_out: int = 0
    """Rows of its file that are no prompts: unreadable, or with a known error."""
    file: Path | None = None
    """lm-eval's task (YAML); None where it was skipped."""
    skipped: str = ""
    """Why no task was written, with the mend where there is one."""


def export_lm_eval(
    out: Path,
    names: Sequence[str],
    data_dir: str | None,
    *,
    take: int | None = None,
    family: Family = "llama",
) -> list[Exported]:
    """Write a task of each benchmark into `out`, with its prompts and gold answers as JSONL.

    `take`: at most so many prompts of each, those that `fusechat evaluate --take` draws. Tasks of
    an earlier export into `out` are removed. The tasks name their data by absolute paths.
    """
    out = out.absolute()
    (out / "data").mkdir(parents=True, exist_ok=True)
    for old in (*out.glob(f"{PREFIX}*.yaml"), *(out / "data").glob(f"{PREFIX}*.jsonl")):
        old.unlink()
    done: list[Exported] = []
    licences: dict[str, str] = {}
    for name in names:
        task = load_part("tasks", {"use": name, "data_dir": data_dir, "family": family})
        assert isinstance(task, Benchmark)
        licences[name] = "; ".join(dict.fromkeys(file.licence for file in task.data))
        why = _skipped(name, task)
        done.append(Exported(name, skipped=why) if why else _export(out, name, task, take))
    write_atomic(out / "README.md", _readme(out, done, licences).encode())
    return done


def _skipped(name: str, task: Benchmark) -> str | None:
    if is_private(type(task)):
        return _PRIVATE
    if name not in FILTERS:
        return _REASONS.get(name, _JUDGED)
    return task.missing()


def _export(out: Path, name: str, task: Benchmark, take: int | None) -> Exported:
    rows = list(task.prompts(task.splits[0]))
    prompts = [row for row in rows if isinstance(row, Prompt)]
    if why := next((why for row in prompts if (why := _unsayable(row))), None):
        return Exported(name, skipped=why)
    if take is not None:
        order = draw_order(_SEED, name, [row.id for row in prompts])
        prompts = [prompts[at] for at in sorted(order[:take])]
    data = out / "data" / f"{PREFIX}{name}.jsonl"
    lines = (json.dumps(_document(row), ensure_ascii=False) + "\n" for row in prompts)
    write_atomic(data, "".join(lines).encode())
    file = out / f"{PREFIX}{name}.yaml"
    config = lm_eval_task(name, task, data)
    write_atomic(file, yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())
    return Exported(name, len(prompts), len(rows) - sum(isinstance(r, Prompt) for r in rows), file)


def _unsayable(prompt: Prompt) -> str | None:
    """Why lm-eval cannot send a prompt's messages as they are."""
    roles = [turn.role for turn in prompt.messages]
    if roles not in (["user"], ["system", "user"]):
        return f"its messages are {', '.join(roles)}; lm-eval sends a system and a user message."
    if roles[0] == "system" and not prompt.messages[0].content:
        return (
            "its system message is empty: lm-eval sends no empty one, and the template would write "
            "its own in that place. Use another --family."
        )
    return None


def _document(prompt: Prompt) -> dict[str, Any]:
    """A prompt as lm-eval's document."""
    *system, user = prompt.messages
    choices = {} if prompt.choices is None else {"choices": list(prompt.choices)}
    return {
        "id": prompt.id,
        "item": prompt.item or "",
        "domain": prompt.domain,
        "system": system[0].content if system else "",
        "prompt": user.content,
        "gold": prompt.answer,
        **choices,
    }


def lm_eval_task(name: str, task: Benchmark, data: Path) -> dict[str, Any]:
    """lm-eval's task of a benchmark in `FILTERS` on a file of documents, to be written as YAML."""
    spelling = {} if FILTERS[name] is _CHOICE else {"regexes_to_ignore": list(_SPELLING)}
    return {
        "task": f"{PREFIX}{name}",
        "tag": "fusechat",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "generate_until",
        "num_fewshot": 0,
        "description": "system",
        "doc_to_text": "prompt",
        "doc_to_target": "gold",
        "generation_kwargs": generation(task.decoding()),
        "filter_list": [
            {"name": called, "filter": [
                {"function": "regex", "regex_pattern": pattern, "group_select": place},
                {"function": "take_first"},
            ]}
            for called, (pattern, place) in FILTERS[name].items()
        ],
        "metric_list": [
            {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True,
             "ignore_case": bool(spelling), **spelling},
        ],
        "metadata": {"version": 1.0, "title": task.title, "family": task.family},
    }  # fmt: skip


def generation(decoding: Mapping[str, Any]) -> dict[str, Any]:
    """A benchmark's decoding as lm-eval's `generation_kwargs`.

    `until` and `repetition_penalty` are said also where they do nothing: without the first lm-eval
    stops at an empty line, without the second transformers takes the model's own penalty.
    """
    out: dict[str, Any] = {
        "until": list(decoding.get("stop", ())),
        "max_gen_toks": decoding["max_new_tokens"],
        "do_sample": decoding["temperature"] > 0,
        "repetition_penalty": decoding.get("repetition_penalty", 1.0),
    }
    if out["do_sample"]:
        warp = {key: decoding[key] for key in ("top_p", "top_k") if key in decoding}
        out |= {"temperature": decoding["temperature"], **warp}
    return out


_HOW = """\
# Benchmarks as tasks of lm-eval

Written by `fusechat lm-eval` for lm-eval 0.4.13 (`pip install 'fusechat[lm_eval]'`). Prompts and
decoding are those of `fusechat evaluate`; rendering, sampling, reading and scoring are lm-eval's.

    lm_eval run --model hf --model_args pretrained=MODEL --tasks fusechat --include_path "{out}" \\
      --apply_chat_template --batch_size 1 --log_samples --output_path RESULTS

- `--apply_chat_template` is needed: without it the system text is glued to the question.
- A template that prints today's date (Llama-3.1) asks for another prompt every day. `fusechat`
  renders every day as {day}; add
  `--model_args 'pretrained=MODEL,chat_template_args={{"date_string": "{day}"}}'`.
- Where a template refuses a system message (Gemma-2), lm-eval leaves it out with a warning only:
  export with `--family gemma`.
- A prompt without room for {room:,} new tokens in the model's context loses its head in lm-eval
  (a warning says so); `fusechat` gives such a prompt less room.
- A batch of more than one prompt is padded, which can change a greedy answer in low precision.
- For a server that knows no `repetition_penalty`, take it out of the files.
- The tasks name their data by absolute paths: after moving this folder, export again.

Filter `first` reads what the `paper` profile reads first, `last` what `robust` reads of plainly
stated letters; `boxed` the last box, `last-number` the last number of the text. An answer in plain
form has the same verdict there and here; equal values in other writing, units and cut answers need
not, and lm-eval then says "wrong" more often.

"""


def _readme(out: Path, done: Iterable[Exported], licences: Mapping[str, str]) -> str:
    from fusechat.chat import DATE

    lines = ["| task | items | rows left out | licence of the items | SHA-256 of the data |",
             "|---|---|---|---|---|"]  # fmt: skip
    skipped = []
    for one in done:
        if one.file is None:
            skipped.append(f"- {one.name}: {one.skipped}")
            continue
        data = out / "data" / f"{PREFIX}{one.name}.jsonl"
        sha = hashlib.sha256(data.read_bytes()).hexdigest()
        row = (f"`{PREFIX}{one.name}`", one.items, one.left_out, licences[one.name], sha)
        lines.append(f"| {' | '.join(map(str, row))} |")
    tail = ["", "Not among them:", "", *skipped] if skipped else []
    head = _HOW.format(out=out, day=DATE.strftime("%d %b %Y"), room=2048)
    return head + "\n".join([*lines, *tail]) + "\n"
