"""Arguments of the commands around a run: servers, workers, plans, checks, pools.

`cli.py` puts them beside its own; what they do is in the module that each names.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODULES = {
    "worker": "commands_worker",
    "serve": "commands_serve",
    "chat": "commands_chat",
    "batch": "commands_batch",
    "doctor": "commands_doctor",
    "plan": "commands_plan",
    "compare": "commands_compare",
    "data": "commands_data",
    "evaluate": "commands_evaluate",
    "score": "commands_score",
    "lm-eval": "commands_lm_eval",
    "import": "commands_pool",
    "export": "commands_pool",
    "push": "commands_pool",
    "clean": "commands_pool",
}
FUNCTIONS = {"import": "import_pool", "lm-eval": "lm_eval"}
"""Where a command's function has another name, for Python's sake."""

RecipeCommand = Callable[[Any, str, str], argparse.ArgumentParser]
AddWorkspace = Callable[[argparse.ArgumentParser], None]


def add_commands(commands: Any, recipe_command: RecipeCommand, workspace: AddWorkspace) -> None:
    """Add all commands of this file."""
    _add_plan(recipe_command(commands, "plan", "what a run would take: tokens, hours, money, disk"))
    text = "run a recipe's methods with several training seeds on its one pool, and compare them"
    _add_compare(recipe_command(commands, "compare", text))
    _add_evaluate(commands, workspace)
    _add_data(commands)
    _add_score(commands)
    _add_lm_eval(commands)
    text = "look over the whole chain: templates, tokens, lengths, licences, servers"
    _add_doctor(recipe_command(commands, "doctor", text))
    text = "compute shards of a row-wise unit beside other workers, on any machine of the workspace"
    _add_worker(recipe_command(commands, "worker", text))
    _add_batch(commands, recipe_command)
    _add_serve(commands)
    _add_chat(commands, workspace)
    _add_pools(commands, workspace)


def add_budget(parser: argparse.ArgumentParser) -> None:
    """Limits that stop sampling cleanly; what is there is built from."""
    parser.add_argument(
        "--max-tokens", type=float, metavar="N", help="stop sampling after N tokens"
    )
    parser.add_argument("--max-hours", type=float, metavar="H", help="stop sampling after H hours")
    parser.add_argument("--max-cost", type=float, metavar="M", help="stop sampling when M is spent")


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pilot", type=int, metavar="N", help="measure on N prompts a set first")
    parser.add_argument("--cluster", type=Path, help="where and how fast (YAML), with prices")
    parser.add_argument("--json", action="store_true", help="for a program to read")


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--methods", metavar="A,B", help="these; the others are held against A")
    parser.add_argument("--seeds", default="1,2,3", metavar="1,2", help="training seeds (1,2,3)")
    parser.add_argument("--wait", action="store_true", help="wait for a workspace that is in use")
    parser.add_argument("--cluster", type=Path, help="where and how fast (YAML); in no key")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="for a program to read")


def _add_evaluate(commands: Any, workspace: AddWorkspace) -> None:
    text = "models on the benchmarks of FuseChat-3.0, side by side with the published figures"
    epilog = (
        "exit codes: 1 the run failed; 2 a wrong recipe or argument; 3 worse (--fail-if-worse); "
        "4 not complete (--require-all), or nothing to compare (--fail-if-worse)"
    )
    parser = commands.add_parser("evaluate", help=text, description=text, epilog=epilog)
    parser.add_argument("recipe", type=Path, nargs="?", help="a recipe file (YAML), or --models")
    parser.add_argument(
        "--models", action="append", metavar="NAME=MODEL,...",
        help="a folder, a hub name or URL#MODEL for each; base, sft and fused are columns",
    )  # fmt: skip
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="the benchmarks' files")
    parser.add_argument(
        "--benchmarks", metavar="A,B", help="these only (default: all, the 14); all,ifeval"
    )
    parser.add_argument("--take", type=int, metavar="N", help="at most N prompts of each")
    parser.add_argument("--judge", metavar="MODEL", help="what judges; without one: no judged rows")
    parser.add_argument("--judge-url", metavar="URL", help="its server (OpenAI chat API)")
    parser.add_argument("--judge-key-env", metavar="NAME", help="variable that holds its key")
    parser.add_argument("--profile", choices=("paper", "robust"), help="whose grading heads")
    parser.add_argument(
        "--fail-if-worse", nargs="?", const="", metavar="BASE:FUSED",
        help="exit 3 where a row fell by more than its noise (default: base:fused)",
    )  # fmt: skip
    parser.add_argument("--require-all", action="store_true", help="exit 4 unless all rows are ok")
    parser.add_argument("--name", default="evaluate", help="of the run, without a recipe")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page here, too")
    parser.add_argument("--json", action="store_true", help="for a program to read")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change one key"
    )
    parser.add_argument("--method", metavar="NAME", help="one of the recipe's methods")
    parser.add_argument("--cluster", type=Path, help="where and how fast (YAML), with prices")
    parser.add_argument("--retry-errors", action="store_true", help="try failed rows again")
    parser.add_argument("--wait", action="store_true", help="wait for a workspace that is in use")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    workspace(parser)


def _add_score(commands: Any) -> None:
    text = "the number of a judged benchmark from judgments that are stored, as JSON"
    parser = commands.add_parser("score", help=text, description=text)
    parser.add_argument("name", metavar="NAME", help="alpaca_eval_2, arena_hard or mt_bench")
    parser.add_argument(
        "file", type=Path, help="the judgments, as the benchmark's own tool has them"
    )
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="the benchmarks' files")
    parser.add_argument(
        "--against", type=Path, metavar="FILE",
        help="judgments of the same answers by another judge: how far the two agree, in the place "
        "of a score",
    )  # fmt: skip


def _add_lm_eval(commands: Any) -> None:
    text = "the multiple-choice and mathematics benchmarks as tasks of lm-eval, on local files"
    parser = commands.add_parser("lm-eval", help=text, description=text)
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="the benchmarks' files")
    parser.add_argument(
        "--benchmarks", metavar="A,B", help="these only (default: all that lm-eval can grade)"
    )
    parser.add_argument("--take", type=int, metavar="N", help="at most N prompts of each")
    parser.add_argument(
        "--family", choices=("llama", "qwen", "gemma"), default="llama",
        help="whose prompts: that of the model (default: llama)",
    )  # fmt: skip


def _add_data(commands: Any) -> None:
    text = "which files of the benchmarks are there, with licences and digests; fetch the others"
    parser = commands.add_parser("data", help=text, description=text)
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="the benchmarks' files")
    parser.add_argument("--benchmarks", metavar="A,B", help="these only (default: all)")
    parser.add_argument(
        "--fetch", action="store_true", help="get what the hub has into DIR (never GPQA)"
    )
    parser.add_argument("--json", action="store_true", help="for a program to read")


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cluster", type=Path, help="where the servers are (YAML)")
    parser.add_argument("--probe", action="store_true", help="ask each server one prompt, too")
    parser.add_argument("--json", action="store_true", help="for a program to read")


def _add_worker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--unit", required=True, help="such as sample/gemma or annotate/armorm")
    parser.add_argument("--cluster", type=Path, help="where and how fast (YAML); in no key")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def _add_batch(commands: Any, recipe_command: RecipeCommand) -> None:
    text = "provider batch files (OpenAI Batch JSONL): write what is still to ask, read answers"
    parser = recipe_command(commands, "batch", text)
    parser.add_argument("--unit", required=True, help="such as sample/gemma")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--out", type=Path, help="folder for the request files")
    way.add_argument("--read", type=Path, nargs="+", help="files that the provider gave back")
    parser.add_argument("--rows", type=int, default=50_000, help="requests a file (default: 50000)")


def _add_serve(commands: Any) -> None:
    text = "serve a model of this machine over the OpenAI chat API, as vLLM does"
    parser = commands.add_parser("serve", help=text, description=text)
    parser.add_argument("model", help="a model folder, or a hub name in the local cache")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes any free one")
    parser.add_argument("--served-model-name", help="the name that requests give (default: MODEL)")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--max-batch", type=int, default=64, help="responses side by side")
    parser.add_argument("--threads", type=int, default=1, help="of numerical libraries")
    parser.add_argument("--api-key-env", metavar="NAME", help="ask for the key in this variable")
    parser.add_argument("--faults", type=Path, metavar="FILE", help="faults on purpose (JSON)")


def _add_chat(commands: Any, workspace: AddWorkspace) -> None:
    text = "talk to a model of a run: in the terminal, by lines of a pipe, or on a local page"
    parser = commands.add_parser("chat", help=text, description=text)
    parser.add_argument(
        "unit", metavar="UNIT",
        help="target, train.sft, train.dpo, a source's name, a model folder, or a cached hub name",
    )  # fmt: skip
    parser.add_argument("--run", metavar="NAME", help="which run of the workspace (newest)")
    parser.add_argument(
        "--beside", action="append", default=[], metavar="NAME",
        help="ask this model the same; the page has a trained model's base without it ('none' to "
        "leave it out)",
    )  # fmt: skip
    parser.add_argument("--web", action="store_true", help="a page on 127.0.0.1, for a browser")
    parser.add_argument("--port", type=int, default=0, help="of the page (default: any free one)")
    parser.add_argument("--temperature", type=float, default=0.7, help="0 is greedy (default: 0.7)")
    parser.add_argument("--top-p", type=float, default=0.95, help="default: 0.95")
    parser.add_argument("--max-new-tokens", type=int, default=1024, help="default: 1024")
    parser.add_argument("--seed", type=int, help="of the first answer (default: drawn anew)")
    parser.add_argument("--system", metavar="TEXT", help="a system message")
    parser.add_argument(
        "--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 (default: auto)")
    parser.add_argument("--threads", type=int, help="of numerical libraries (default: all cores)")
    workspace(parser)


def _add_pools(commands: Any, workspace: AddWorkspace) -> None:
    text = "turn stored responses of other tools into a pool that 'given' reads"
    parser = commands.add_parser("import", help=text, description=text)
    parser.add_argument(
        "layout",
        help="auto, or simpo, ultrafeedback, wrpo, fusechat, llamafactory, distilabel, binarized, "
        "columns, long",
    )
    parser.add_argument("files", type=Path, nargs="+", help="JSONL, JSON or Parquet")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--model", metavar="NAME", help="who made responses of which the files do not say it"
    )
    text = "write the SFT and DPO sets, or the whole pool, for other tools, with a card"
    parser = commands.add_parser("export", help=text, description=text)
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--run", metavar="NAME", help="which run of the workspace")
    parser.add_argument(
        "--to",
        choices=("trl", "llamafactory", "pool", "model"),
        default="trl",
        help="sets for a trainer (default: trl), every response and score, the trained model",
    )
    parser.add_argument(
        "--sft-only", action="store_true", help="leave the pairs out (of --to llamafactory)"
    )
    workspace(parser)
    text = "push an exported folder to the hub, with your own token (HF_TOKEN)"
    parser = commands.add_parser("push", help=text, description=text)
    parser.add_argument("folder", type=Path, help="what `export` wrote")
    parser.add_argument("repo", help="owner/name")
    parser.add_argument("--public", action="store_true", help="default: private")
    text = "folders of the workspace that no run refers to, with sizes; --yes removes them"
    parser = commands.add_parser("clean", help=text, description=text)
    parser.add_argument("--yes", action="store_true", help="remove them")
    workspace(parser)
