"""`python -m fusechat.miniature`: build the zoo from nothing, or check a built one."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fusechat.miniature.specs import MODELS

NAMES = (*MODELS, "reward")


def build(out: Path, only: Sequence[str] = ()) -> None:
    """Train the models (all, or those named) into `out`, one folder a model.

    The reward model needs the four sources to be there already, or to be built with it.
    """
    import torch

    from fusechat.miniature.reward import train_reward
    from fusechat.miniature.training import pretrain

    torch.set_num_threads(1)
    for name in only or NAMES:
        begun = time.monotonic()
        if name == "reward":
            train_reward(out, out / name, say)
        else:
            pretrain(MODELS[name], out / name, say)
        say(f"{name}: built in {time.monotonic() - begun:.0f} s")


def say(line: str) -> None:
    """Print one line of progress."""
    print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m fusechat.miniature", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser("build", help="train the models from nothing")
    building.add_argument("--out", type=Path, default=Path("zoo"))
    building.add_argument("--only", action="append", choices=NAMES, default=[])
    checking = commands.add_parser("check", help="accuracy of every model per domain, and more")
    checking.add_argument("--zoo", type=Path, default=Path("zoo"))
    checking.add_argument("--only", action="append", choices=NAMES, default=[])
    checking.add_argument("--split", choices=("dev", "test"), default="dev")
    checking.add_argument("--size", type=int, default=100, help="prompts a domain")
    given = parser.parse_args(arguments)
    from transformers.utils import logging

    logging.disable_progress_bar()
    if given.command == "build":
        build(given.out, given.only)
        return 0
    from fusechat.miniature.checking import reward_accuracy, table

    names = [name for name in given.only or NAMES if (given.zoo / name).is_dir()]
    if not names:
        say(f"there is no model in {given.zoo}; build one with: build --out {given.zoo}")
        return 1
    for line in table(given.zoo, [n for n in names if n != "reward"], given.split, given.size):
        say(line)
    if "reward" in names:
        say(reward_accuracy(given.zoo, given.split, given.size))
    return 0


if __name__ == "__main__":
    sys.exit(main())
