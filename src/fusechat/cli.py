"""The command line: `fusechat COMMAND`. Kept light: nothing heavy is imported to print help.

Exit codes: 0 ok, 1 failed, 2 faults of the recipe or the call, 3 the doctor found a fault, 130
interrupted.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fusechat import cli_more
from fusechat.errors import FusechatError

FAMILIES = ("sources", "annotators", "strategies", "losses", "tasks")
MENDABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
"""What the operating system refuses, and a user can mend."""
EPILOG = """exit codes: 0 ok, 1 failed, 2 faults of the recipe or the call, 3 the doctor found a
            fault, 130 interrupted

first steps:
  fusechat check recipes/mini.yaml     what would run, and every fault
  fusechat run recipes/mini.yaml       run it (safe to call again)
  fusechat show build --prompt ID      why this pair was chosen, or none was
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    if options.command is None:
        _parser().print_help()
        return 2
    try:
        code: int = _command(options.command)(options)
    except FusechatError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(
            "\ninterrupted; all finished work is kept. The same command goes on from here.",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno not in MENDABLE:
            raise
        place = f"{error.filename}: " if error.filename else ""
        print(
            f"{place}{error.strerror}. All finished work is kept. Mend this (space, rights, "
            "quota), and the same command goes on from here.",
            file=sys.stderr,
        )
        return 1
    return code


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    """The function behind a command; only its own module is imported."""
    from importlib import import_module

    own = {"grade": "commands_grade", "what-if": "commands_what_if"}
    module = (own | cli_more.MODULES).get(name, "commands")
    function = {"list": "list_parts", "what-if": "what_if", **cli_more.FUNCTIONS}.get(name, name)
    found: Callable[[argparse.Namespace], int] = getattr(
        import_module(f"fusechat.{module}"), function
    )
    return found


def console() -> None:
    """Entry point of the installed command; a user's parts are found in the current folder, too."""
    sys.path.append(os.getcwd())
    sys.exit(main())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fusechat",
        description="Fuse the strengths of several source LLMs into one compact target LLM.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_check(commands)
    _add_run(commands)
    _add_show(commands)
    _add_what_if(commands)
    _add_grade(commands)
    _add_rest(commands)
    cli_more.add_commands(commands, _recipe_command, _workspace)
    return parser


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("fusechat")
    except PackageNotFoundError:
        return "(not installed)"


def _recipe_command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("recipe", type=Path, help="a recipe file (YAML)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one key of the recipe, such as build.chat.dpo.min_margin=0.02",
    )
    if name != "compare":
        parser.add_argument("--method", metavar="NAME", help="one of the recipe's methods")
    _workspace(parser)
    return parser


def _workspace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workspace",
        type=Path,
        default=Path("workspace"),
        help="folder of all units (default: ./workspace)",
    )


def _add_check(commands: Any) -> None:
    text = "show the plan (done, to run, and why) and every fault; runs nothing"
    parser = _recipe_command(commands, "check", text)
    parser.add_argument("--json", action="store_true", help="for a program to read")


def _add_run(commands: Any) -> None:
    text = "run what is missing of a recipe; safe to call again"
    parser = _recipe_command(commands, "run", text)
    parser.add_argument("--only", metavar="UNIT", help="this unit and what it needs, such as build")
    parser.add_argument("--refresh", metavar="UNIT", help="do this unit again, though it is done")
    parser.add_argument(
        "--retry-errors", action="store_true", help="try rows again that were kept with an error"
    )
    parser.add_argument("--wait", action="store_true", help="wait for a workspace that is in use")
    parser.add_argument("--cluster", type=Path, help="where and how fast (YAML); in no key")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    cli_more.add_budget(parser)


def _add_show(commands: Any) -> None:
    text = "show rows of a unit; a prompt with its responses, scores and the reasons"
    parser = commands.add_parser("show", help=text, description=text)
    parser.add_argument("unit", help="such as build, sample/gemma, annotate/math, train/dpo")
    parser.add_argument(
        "--prompt", metavar="ID", help="one prompt (the first letters of its id do)"
    )
    parser.add_argument("--dropped", action="store_true", help="the dropped rows, with reasons")
    parser.add_argument("--table", help="which table of the unit, such as dpo")
    parser.add_argument("--limit", type=int, default=10, help="rows shown (default: 10)")
    parser.add_argument(
        "--run", metavar="NAME", help="which run of the workspace (default: newest)"
    )
    parser.add_argument("--json", action="store_true", help="JSON lines")
    _workspace(parser)


def _add_what_if(commands: Any) -> None:
    text = "what another window or rule would have given, from finished scores; writes nothing"
    parser = _recipe_command(commands, "what-if", text)
    parser.add_argument("--sources", metavar="A,B", help="with the responses of these sources only")
    parser.add_argument("--drop-one", action="store_true", help="without each source in turn")
    parser.add_argument("--json", action="store_true", help="for a program to read")


def _add_grade(commands: Any) -> None:
    text = "judge the rows of your own file: one JSON object a line, in their order"
    parser = commands.add_parser("grade", help=text, description=text)
    kinds = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    text = "rows with gold, pred (a final answer or a whole response) and perhaps id"
    math = kinds.add_parser("math", help=text, description=text)
    math.add_argument("file", type=Path, help="JSON lines")
    text = "rows with task_id and solution (a whole program), run against the task's tests"
    code = kinds.add_parser("code", help=text, description=text)
    code.add_argument("file", type=Path, help="JSON lines")
    code.add_argument("--task", choices=("humaneval", "mbpp"), required=True)
    code.add_argument("--data-dir", type=Path, help="folder with the task's released files")
    code.add_argument("--strict", action="store_true", help="tests in a process of their own")
    code.add_argument(
        "--allow-weak-sandbox", action="store_true", help="also where this machine contains little"
    )


def _add_rest(commands: Any) -> None:
    listing = commands.add_parser("list", help="list the parts of a family")
    listing.add_argument("family", choices=FAMILIES)
    listing.add_argument("--json", action="store_true", help="for a program to read")
    _recipe_command(commands, "report", "write the report of what is finished")
    status = commands.add_parser("status", help="how far a run is, seen from another terminal")
    status.add_argument("--json", action="store_true", help="for a program to read")
    _workspace(status)


if __name__ == "__main__":
    console()
