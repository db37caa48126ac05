"""Layers do not keep themselves: a file imports only from lower layers, families not each other."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "fusechat"
LAYERS = [
    {"digests", "errors", "faultpoints", "records", "environment", "progress", "settings",
     "log_files", "budget", "files"},
    {"parts", "groups", "group_rows", "tables", "locks", "columns", "chat", "children",
     "local_models", "sandbox", "licences", "executors", "losses", "metrics", "miniature", "packed",
     "hub_sets", "plain_pickles"},
    {"sources", "annotators", "strategies", "tasks", "training"},
    {"stages", "report", "exports", "grading", "serving", "cards", "pools", "batch_files"},
    {"recipe_file", "recipe_checks", "recipe", "planner", "runner", "results", "unit_folders",
     "unit_contexts", "training_units", "training_checks", "on_policy_units",
     "on_policy_checks", "workers", "doctor",
     "forecast",
     "methods", "method_runs", "evaluation_units", "evaluate_checks", "evaluate_asked",
     "recipe_hints", "run_models"},
    {"commands", "commands_grade", "commands_what_if", "commands_worker", "commands_serve",
     "commands_batch", "commands_doctor", "commands_plan", "commands_pool", "cli", "cli_more",
     "__main__", "commands_compare", "commands_evaluate", "commands_score", "commands_data",
     "commands_chat", "commands_lm_eval"},
]  # fmt: skip
FAMILIES = {"sources", "annotators", "strategies", "tasks"}
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imports_of(path: Path) -> list[tuple[int, str]]:
    """(line, imported module of ours), those inside functions too; type-only ones left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fusechat"):
            names = (
                [f"{node.module}.{a.name}" for a in node.names]
                if node.module == "fusechat"
                else [node.module]
            )
            found += [(node.lineno, name) for name in names]
        elif isinstance(node, ast.Import):
            found += [(node.lineno, a.name) for a in node.names if a.name.startswith("fusechat.")]
    return found


def test_a_file_imports_only_from_its_own_or_lower_layers() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        assert own in LEVEL, f"{path.name}: say in this test which layer '{own}' is in"
        for line, module in imports_of(path):
            other = module.split(".")[1]
            if other not in LEVEL:
                continue
            if LEVEL[other] > LEVEL[own] or (own in FAMILIES and other in FAMILIES - {own}):
                wrong.append(f"{path.relative_to(PACKAGE)}:{line} ({own}) imports {module}")
    assert not wrong, "\n".join(wrong)


def test_files_and_functions_stay_small() -> None:
    large = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > 400:
            large.append(f"{path.relative_to(PACKAGE)}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > 60:
                    large.append(f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}: {length}")
    assert not large, "\n".join(large)
