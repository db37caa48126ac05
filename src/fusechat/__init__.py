"""fusechat: the strengths of several heterogeneous source LLMs in one compact target LLM.

    recipe = fusechat.load_recipe("recipes/mini.yaml")
    print(fusechat.plan(recipe, "workspace"))    # what is done, what would run, and why
    result = fusechat.run(recipe, "workspace")   # safe to call again
    for pair in result["build"].rows("dpo"): ...

Everything public is listed in `__all__`; names are loaded when first used, so that the import
stays quick and free of torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusechat.errors import FusechatError, RecipeError
    from fusechat.method_runs import compare
    from fusechat.parts import Annotator, Loss, Part, Source, Strategy, Task
    from fusechat.planner import plan
    from fusechat.recipe import Recipe, load_cluster, load_recipe
    from fusechat.records import Demonstration, Dropped, Message, Pair, Prompt, Response, Score
    from fusechat.runner import Options, run
    from fusechat.tables import read_table

_HOMES = {
    "errors": ("FusechatError", "RecipeError"),
    "method_runs": ("compare",),
    "parts": ("Annotator", "Loss", "Part", "Source", "Strategy", "Task"),
    "planner": ("plan",),
    "recipe": ("Recipe", "load_cluster", "load_recipe"),
    "records": ("Demonstration", "Dropped", "Message", "Pair", "Prompt", "Response", "Score"),
    "runner": ("Options", "run"),
    "tables": ("read_table",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Annotator",
    "Demonstration",
    "Dropped",
    "FusechatError",
    "Loss",
    "Message",
    "Options",
    "Pair",
    "Part",
    "Prompt",
    "Recipe",
    "RecipeError",
    "Response",
    "Score",
    "Source",
    "Strategy",
    "Task",
    "compare",
    "load_cluster",
    "load_recipe",
    "plan",
    "read_table",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'fusechat' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fusechat.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
