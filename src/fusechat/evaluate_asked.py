"""The recipe that `fusechat evaluate` runs: a file's, changed by its arguments, or made of them."""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from fusechat.errors import Fault, RecipeError
from fusechat.evaluate_checks import evaluated_models
from fusechat.recipe import Recipe, read_recipe, recipe_text
from fusechat.stages.evaluate_settings import FOURTEEN

_PART = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""A source part of one's own: `package.module:Class`."""
FLAGS = {
    "evaluate.models": "--models", "evaluate.benchmarks": "--benchmarks",
    "evaluate.data_dir": "--data-dir", "evaluate.take": "--take", "evaluate.judge": "--judge",
    "evaluate.profile": "--profile", "name": "--name",
}  # fmt: skip
"""Key of a recipe -> the argument that sets it."""


def asked_recipe(options: argparse.Namespace, settings: Mapping[str, Any]) -> tuple[Recipe, str]:
    """The recipe and its text. Raises `RecipeError` with all faults of both."""
    faults: list[Fault] = []
    said = _said(options, faults)
    if options.recipe is None:
        if "evaluate.models" not in said and not faults:
            message = "give a recipe, or models, such as --models base=org/name,fused=./folder."
            faults.append(Fault("--models", "", message))
        if options.method is not None:
            faults.append(Fault("--method", options.method, "needs a recipe that has methods."))
        return _made_or_told(options, said, settings, faults)
    if not _evaluates(options.recipe) and "evaluate.benchmarks" not in said:
        said["evaluate.benchmarks"] = "all"
    recipe, found, file = read_recipe(options.recipe, {**said, **settings}, options.method)
    if recipe is not None and not found and (own := _own_models(recipe, said)):
        said = {**said, "evaluate.models": own}
        recipe, found, file = read_recipe(options.recipe, {**said, **settings}, options.method)
    faults += _at_flags(found, said)
    if faults or recipe is None:
        raise RecipeError(faults)
    return recipe, recipe_text(file)


def _made_or_told(
    options: argparse.Namespace,
    said: Mapping[str, Any],
    settings: Mapping[str, Any],
    faults: list[Fault],
) -> tuple[Recipe, str]:
    """The recipe of the arguments; where there are faults, those of the recipe are told, too."""
    if "evaluate.models" in said:
        try:
            made = _made(options, said, settings)
        except RecipeError as error:
            told = {fault.place for fault in faults}  # what follows from these is not said again
            more = [fault for fault in error.faults if fault.place not in told]
            raise RecipeError([*faults, *more]) from error
        if not faults:
            return made
    raise RecipeError(faults)


def _own_models(recipe: Recipe, said: Mapping[str, Any]) -> list[str]:
    """Base, SFT and fused, where benchmarks are asked for and nobody says of which models."""
    evaluation = recipe.evaluate
    if evaluation is None or evaluation.models is not None or "evaluate.benchmarks" not in said:
        return []
    models = evaluated_models(recipe)
    return [name for name in models if name == "target" or name.startswith("train.")]


def _made(
    options: argparse.Namespace, said: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[Recipe, str]:
    """A recipe of the arguments alone."""
    tree: dict[str, Any] = {"name": options.name, "evaluate": {"benchmarks": "all"}}
    for key, value in said.items():
        section, _, name = key.partition(".")
        tree[section] = {**tree[section], name: value} if name else value
    with tempfile.TemporaryDirectory(prefix="fusechat-") as folder:
        path = Path(folder) / "evaluate.yaml"
        path.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), "utf-8")
        recipe, faults, file = read_recipe(path, settings)
    if faults or recipe is None:
        said = {"evaluate.benchmarks": "all", **said, "name": options.name}
        raise RecipeError(_at_flags(faults, said))
    return recipe, recipe_text(file)


def _evaluates(path: Path) -> bool:
    """Whether a recipe says what it evaluates; what is no recipe is told by its reader."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return True
    return isinstance(tree, Mapping) and bool(tree.get("evaluate"))


def _said(options: argparse.Namespace, faults: list[Fault]) -> dict[str, Any]:
    """Dotted key -> value, of the arguments that were given."""
    said: dict[str, Any] = {}
    if options.models:
        said["evaluate.models"] = _models(options.models, faults)
    if options.benchmarks is not None:
        said["evaluate.benchmarks"] = _benchmarks(options.benchmarks, faults)
    if options.data_dir is not None:
        said["evaluate.data_dir"] = str(options.data_dir.resolve())
        if not options.data_dir.is_dir():
            faults.append(Fault("--data-dir", str(options.data_dir), "is no folder."))
    if options.take is not None:
        said["evaluate.take"] = options.take
    if options.profile is not None:
        said["evaluate.profile"] = options.profile
    if judge := _judge(options, faults):
        said["evaluate.judge"] = judge
    return said


def _benchmarks(text: str, faults: list[Fault]) -> str | list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        message = "name benchmarks with commas between, such as gsm8k,math, or write all."
        faults.append(Fault("--benchmarks", text, message))
    if names == ["all"]:
        return "all"
    every = [part for name in names for part in (FOURTEEN if name == "all" else (name,))]
    return list(dict.fromkeys(every))


def _models(texts: Sequence[str], faults: list[Fault]) -> dict[str, Any]:
    """`base=MODEL,fused=MODEL`: a folder, a hub name, or URL#MODEL of a server."""
    found: dict[str, Any] = {}
    for part in (one.strip() for text in texts for one in text.split(",")):
        name, equals, model = part.partition("=")
        if not equals or not name or not model:
            message = "write NAME=MODEL, such as base=org/name or fused=./folder."
            faults.append(Fault("--models", part, message))
        elif name in found:
            faults.append(Fault("--models", name, "is there twice. Name each model once."))
        else:
            found[name] = _model(part, model, faults)
    return found


def _model(part: str, model: str, faults: list[Fault]) -> str | dict[str, Any]:
    if not model.startswith(("http://", "https://")):
        return _absolute(model)
    url, _, served = model.partition("#")
    if not served:
        message = "say which of the server's models is meant: NAME=URL#MODEL."
        faults.append(Fault("--models", part, message))
    return {"use": "endpoint", "model": served, "base_url": url}


def _absolute(model: str) -> str:
    """A folder's whole path, since the recipe stands elsewhere; a hub name as it is."""
    path = Path(model).expanduser()
    near = model.startswith((".", "/", "~")) or path.exists()
    return str(path.resolve()) if near else model


def _judge(options: argparse.Namespace, faults: list[Fault]) -> dict[str, Any] | None:
    url, key = options.judge_url, options.judge_key_env
    if options.judge is None:
        for flag, value in (("--judge-url", url), ("--judge-key-env", key)):
            if value is not None:
                message = "needs --judge MODEL, the name of the server's model."
                faults.append(Fault(flag, value, message))
        return None
    if url is None:
        if key is not None:
            faults.append(Fault("--judge-key-env", key, "needs --judge-url URL."))
        if _PART.fullmatch(options.judge):
            return {"use": options.judge}
        return {"use": "hf", "model": _absolute(options.judge)}
    judge = {"use": "endpoint", "model": options.judge, "base_url": url}
    return judge | ({"api_key_env": key} if key else {})


def _at_flags(faults: Sequence[Fault], said: Mapping[str, Any]) -> list[Fault]:
    """Faults of what arguments said, at those arguments; each once."""
    return list(dict.fromkeys(_of_flag(fault, said) for fault in faults))


def _of_flag(fault: Fault, said: Mapping[str, Any]) -> Fault:
    steps = fault.key.split(".")
    if fault.key.startswith("evaluate.benchmarks.") and "evaluate.benchmarks" in said:
        shared = f"evaluate.{steps[-1]}"  # what is said for all stands in every entry
        if shared in said:
            return replace(fault, place=FLAGS[shared], key="")
        names = said["evaluate.benchmarks"]
        at = int(steps[2]) if steps[2].isdigit() else 0
        name = names[at] if isinstance(names, list) and at < len(names) else ""
        return replace(fault, place="--benchmarks", key=name)
    for key, flag in FLAGS.items():
        if key in said and (fault.key == key or fault.key.startswith(f"{key}.")):
            return replace(fault, place=flag, key=fault.key[len(key) + 1 :])
    return fault
