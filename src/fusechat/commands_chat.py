"""`fusechat chat UNIT`: talk to a model of a run, in a terminal or on a local page."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fusechat.errors import FusechatError, MissingExtraError
from fusechat.files import read_json
from fusechat.parts import Where, package_fault
from fusechat.run_models import BASE, ModelNameError, RunModels

if TYPE_CHECKING:
    from fusechat.serving.conversation import Sampling
    from fusechat.serving.engine import LocalEngine

NOBODY = "none"
"""`--beside none`: the page shows the model alone."""
_ADAPTER = "adapter_config.json"


class ChatError(FusechatError):
    """The call of `chat` is wrong; lists all that is. Nothing was loaded."""

    exit_code = 2


@dataclass(frozen=True)
class Chosen:
    """A model to talk to."""

    name: str
    """As it was asked for."""
    folder: Path


def chat(options: argparse.Namespace) -> int:
    """Talk until the user leaves."""
    _look_for_packages(options.web)
    chosen, sampling = _checked(options)
    from fusechat.local_models import fast_dtype
    from fusechat.serving.engine import LocalEngine

    _quiet()
    dtype = fast_dtype() if options.dtype == "auto" else options.dtype
    where = Where(device=options.device, threads=options.threads or _cores())
    with ExitStack() as stack:
        engines = []
        for one in chosen:
            print(f"loading {one.name} ({one.folder}) ...", file=sys.stderr, flush=True)
            engine = LocalEngine(str(one.folder), one.name, dtype, where, max_batch=4)
            engines.append(stack.enter_context(closing(engine)))
        if options.web:
            return _serve_page(engines, sampling, options)
        return _talk(engines, sampling, options)


def _look_for_packages(web: bool) -> None:
    wanted = {"torch": "local", "transformers": "local"}
    wanted |= {"starlette": "serve", "uvicorn": "serve"} if web else {}
    for package, extra in wanted.items():
        if package_fault(package, extra):
            raise MissingExtraError("fusechat chat", package, extra)


def _quiet() -> None:
    """No warning of transformers where a conversation outgrows the context: ours says it."""
    from transformers.utils import logging

    logging.set_verbosity_error()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _talk(engines: Sequence[LocalEngine], sampling: Sampling, options: argparse.Namespace) -> int:
    from fusechat.serving.conversation import Conversation
    from fusechat.serving.terminal import Screen, lines_of, talk, typed

    screen = Screen.of_process(no_colour=bool(os.environ.get("NO_COLOR")))
    if screen.interactive:
        screen.note(_greeting(engines, sampling))
    conversations = [Conversation(one, sampling, options.system) for one in engines]
    talk(conversations, screen, typed if screen.interactive else lines_of(sys.stdin))
    return 0


def _greeting(engines: Sequence[LocalEngine], sampling: Sampling) -> str:
    contexts = [f" (context {one.context:,})" if one.context else "" for one in engines]
    names = [f"{one.name}{context}" for one, context in zip(engines, contexts, strict=True)]
    heat = f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}"
    drawn = "greedy" if sampling.temperature == 0 else heat
    return (
        f"You talk to {' and to '.join(names)}: {drawn}, at most {sampling.max_new_tokens} tokens "
        "an answer. /help lists what else there is; Ctrl-D leaves."
    )


def _serve_page(
    engines: Sequence[LocalEngine], sampling: Sampling, options: argparse.Namespace
) -> int:
    from fusechat.serving.chat_page import create_page
    from fusechat.serving.server import listen, serve, url_of

    with listen("127.0.0.1", options.port) as place:
        app = create_page(engines, place.getsockname()[1], sampling, options.system)
        serve(app, place, f"chat at {url_of(place)}/ (stop: Ctrl+C)")
    return 0


def _checked(options: argparse.Namespace) -> tuple[list[Chosen], Sampling]:
    """The models and how they are sampled; raises with all that is wrong."""
    from fusechat.serving.conversation import Sampling

    wrong = list(_number_faults(options))
    chosen: list[Chosen] = []
    for name in _wanted(options):
        try:
            one = Chosen(name, find_model(name, options))
        except FusechatError as error:
            wrong.append(str(error))
            continue
        if one.name in [other.name for other in chosen]:
            wrong.append(f"--beside: '{name}' is there twice. Give another model.")
        found = list(_folder_faults(one))
        wrong += found
        chosen.append(one)
        if options.system and not found:
            wrong += _system_faults(one)
    if wrong:
        raise ChatError("\n".join(dict.fromkeys(wrong)))
    sampling = Sampling(options.temperature, options.top_p, options.max_new_tokens, options.seed)
    return chosen, sampling


def _number_faults(options: argparse.Namespace) -> Iterator[str]:
    if not 0 <= options.temperature < float("inf"):
        yield "--temperature: give a number of 0 or more; 0 takes the likeliest token each time."
    if not 0 < options.top_p <= 1:
        yield "--top-p: give a number above 0, of at most 1."
    if options.max_new_tokens < 1:
        yield "--max-new-tokens: give a whole number of 1 or more."
    if options.threads is not None and options.threads < 1:
        yield "--threads: give a whole number of 1 or more."
    if options.seed is not None and not 0 <= options.seed < 2**62:
        yield "--seed: give a whole number from 0 to 2^62."
    if not 0 <= options.port < 65536:
        yield "--port: give a number from 0 to 65535; 0 takes any free one."


def _wanted(options: argparse.Namespace) -> list[str]:
    """The names of the models, the one asked for first. A page has a trained model's base, too."""
    beside = [name for name in options.beside if name != NOBODY]
    if beside or options.beside or not options.web:
        return [options.unit, *beside]
    run = _run(options)
    if run is None or not run.trained(options.unit):
        return [options.unit]
    try:
        run.folder(BASE)
    except ModelNameError as error:
        print(f"without its base beside it: {error}", file=sys.stderr)
        return [options.unit]
    return [options.unit, BASE]


def find_model(name: str, options: argparse.Namespace) -> Path:
    """The folder of a name of the run, of a path, or of a hub name in the local cache.

    Names of the run go first, but for what is written as a path (`./sft`, `/models/sft`).
    """
    run = None if name.startswith((".", "/", "~")) else _run(options)
    if run is not None and run.knows(name):
        return run.folder(name)
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve()
    from fusechat.settings import hub_snapshot

    if (snapshot := hub_snapshot(name)) is not None:
        return snapshot
    if run is not None:
        return run.folder(name)  # raises with the near names
    if name.startswith((".", "/", "~")):
        raise ModelNameError(f"there is no model folder at {path.resolve()}.")
    what = f"no run '{options.run}'" if options.run else "no run yet"
    raise ModelNameError(
        f"'{name}' is no model folder, and the workspace {options.workspace} has {what}. Run a "
        "recipe first (fusechat run RECIPE), name its --workspace, or give a model folder."
    )


def _run(options: argparse.Namespace) -> RunModels | None:
    """The run that is meant: the newest of the workspace, or the one named; None without one."""
    plans = [
        path
        for path in options.workspace.glob("runs/*/plan.json")
        if path.parent.name.startswith(options.run or "")
    ]
    if not plans:
        return None
    newest = max(plans, key=lambda path: path.stat().st_mtime)
    units = {
        unit["name"]: options.workspace.resolve() / unit["folder"]
        for unit in read_json(newest)["units"]
    }
    return RunModels.read(newest.parent, units)


def _folder_faults(one: Chosen) -> Iterator[str]:
    """What a model folder lacks for chatting, told from its small files."""
    from fusechat.local_models import model_faults

    adapter = one.folder / _ADAPTER
    if adapter.is_file() and not (one.folder / "config.json").is_file():
        base = read_json(adapter).get("base_model_name_or_path") or "its base"
        yield (
            f"'{one.name}': {one.folder} holds adapters only, over {base}. Give the merged model "
            "(a run's units have it in model/), or merge it: "
            "PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(FOLDER)."
        )
        return
    for fault in model_faults(str(one.folder), "chat"):
        yield f"'{one.name}': {fault}"


def _system_faults(one: Chosen) -> list[str]:
    from fusechat.chat import system_role_fault

    fault = system_role_fault(one.folder)
    return [f"--system: {fault}"] if fault else []
