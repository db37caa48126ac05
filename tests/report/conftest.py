"""Makes the workspace builder beside this file a fixture (test folders are no packages)."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fusechat import files, report


@pytest.fixture(scope="session")
def made() -> ModuleType:
    """The module `workspace.py` of this folder."""
    path = Path(__file__).with_name("workspace.py")
    spec = importlib.util.spec_from_file_location("report_workspace", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def whole(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(run folder, workspace) of a run with everything. Read only."""
    root = tmp_path_factory.mktemp("workspace")
    return made.whole_run(root), root


@pytest.fixture(scope="session")
def analysis(whole: tuple[Path, Path]) -> Mapping[str, Any]:
    """What the build of that run says about itself. Read only."""
    (path,) = whole[1].glob("build-*/analysis.json")
    found: Mapping[str, Any] = files.read_json(path)
    return found


@pytest.fixture(scope="session")
def graded(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(page, workspace) of a run that only evaluated, with a win rate. Read only."""
    root = tmp_path_factory.mktemp("graded")
    space = made.Workspace(root)
    made.build_graded_evaluation(space)
    return report.write(space.run(), root), root
