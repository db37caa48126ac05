"""`fusechat score`: a benchmark's number from stored judgments, as one JSON object."""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import pkgutil
from types import ModuleType
from typing import Any

from fusechat import grading
from fusechat.errors import Fault, RecipeError

_PREFIX = "score_"


def score(options: argparse.Namespace) -> int:
    """Print what `grading/score_<name>.py` makes of the file; 0 says that it could be made.

    Raises `RecipeError` for a name that is none, and for a comparison that there is none of.
    """
    module = _module(options.name)
    if options.against is None:
        found: dict[str, Any] = module.score(options.file, options.data_dir)
    elif hasattr(module, "agreement"):
        found = module.agreement(options.file, options.against, options.data_dir)
    else:
        raise _fault("--against", f"judgments of {options.name} cannot be compared. Leave it out.")
    print(json.dumps(found, ensure_ascii=False, indent=2, allow_nan=False))
    return 0


def names() -> list[str]:
    """The benchmarks whose stored judgments can be scored, found by file."""
    files = [module.name for module in pkgutil.iter_modules(grading.__path__)]
    return sorted(name.removeprefix(_PREFIX) for name in files if name.startswith(_PREFIX))


def _module(name: str) -> ModuleType:
    known = names()
    if name in known:
        return importlib.import_module(f"fusechat.grading.{_PREFIX}{name}")
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean '{near[0]}'? " if near else ""
    raise _fault(
        "NAME", f"no stored judgments are named '{name}'. {hint}One of {', '.join(known)}."
    )


def _fault(key: str, message: str) -> RecipeError:
    return RecipeError([Fault("", key, message)])
