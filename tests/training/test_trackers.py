"""Trackers get a run's numbers, go on with it, and never end it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from training_tiny import bytes_of, context_of, pairs, save_base, save_build

from fusechat.files import read_json, read_jsonl
from fusechat.progress import Progress
from fusechat.stages.train import train_dpo
from fusechat.stages.train_settings import DpoSettings
from fusechat.stages.train_watch import flat
from fusechat.training import trackers
from fusechat.training.trackers import KINDS, tracker_faults

tracking = pytest.importorskip("accelerate.tracking")

SETTINGS: dict[str, Any] = {
    "global_batch_size": 8, "learning_rate": 1e-3, "held_out": 0.2, "save_steps": 2,
    "watch": {"prompts": 2, "max_new_tokens": 4}, "report_to": "wandb",
}  # fmt: skip


class Stub(tracking.GeneralTracker):  # type: ignore[misc, name-defined]
    """Stands in for a tracker of accelerate; writes what it was told, or fails."""

    name = "wandb"
    requires_logging_directory = False
    made: ClassVar[list[Stub]] = []
    fails_at: ClassVar[str] = ""

    def __init__(self, project: str, **arguments: Any) -> None:
        super().__init__()
        self.project, self.arguments = project, arguments
        self.configuration: dict[str, Any] = {}
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.finished = False
        Stub.made.append(self)

    @property
    def tracker(self) -> Any:
        return self

    def start(self) -> None:
        self._fail("start")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.configuration = values

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        assert step is not None
        self._fail(str(step))
        self.logged.append((step, values))

    def finish(self) -> None:
        self._fail("finish")
        self.finished = True

    def _fail(self, place: str) -> None:
        if Stub.fails_at == place:
            raise ConnectionError("no server\nand much more")


class Notes(Progress):
    """Keeps what was noted."""

    def __init__(self) -> None:
        super().__init__("")
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> type[Stub]:
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "wandb", Stub)
    Stub.made, Stub.fails_at = [], ""
    return Stub


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("track")
    save_base(folder / "base")
    save_build(folder / "build", dpo=pairs(30))
    return folder


def _train(place: Path, unit: str, **settings: Any) -> tuple[dict[str, Any], list[str]]:
    notes = Notes()
    wanted = DpoSettings.model_validate({**SETTINGS, **settings})
    context = context_of(place / unit, place / "base", place / "build", wanted)
    return train_dpo(replace(context, progress=notes)), notes.said


def _undo_end(unit: Path) -> None:
    """As if the run had been killed after its last step."""
    (unit / "finished.json").unlink()


def test_a_tracker_gets_every_step_and_every_look_in_their_order(
    stub: type[Stub], place: Path
) -> None:
    _train(place, "unit")
    (made,) = stub.made
    assert made.finished
    assert made.project == "fusechat"
    assert made.arguments["name"] == f"{place.name}-unit"
    assert made.configuration["learning_rate"] == 1e-3
    assert made.configuration["loss.use"] == "length_normalized_dpo"
    steps = [step for step, _ in made.logged]
    assert steps == [0, 1, 2, 2, 3, 3]
    lines = list(read_jsonl(place / "unit" / "metrics.jsonl"))
    looks = list(read_jsonl(place / "unit" / "watch.jsonl"))
    assert made.logged[1][1]["train/loss"] == lines[0]["loss"]
    assert made.logged[3][1]["held_out/loss"] == looks[1]["held_out_loss"]
    assert made.logged[3][1]["watch/kl"] == looks[1]["kl"]


def test_a_run_that_goes_on_is_the_same_run_and_one_that_begins_anew_is_another(
    stub: type[Stub], place: Path
) -> None:
    import shutil

    _train(place, "goes-on")
    _undo_end(place / "goes-on")
    _train(place, "goes-on")
    _undo_end(place / "goes-on")
    shutil.rmtree(place / "goes-on" / "checkpoints")
    _train(place, "goes-on")
    first, again, anew = (made.arguments["id"] for made in stub.made)
    assert first == again != anew
    assert [step for step, _ in stub.made[1].logged] == [3, 3]  # from the checkpoint of step 2


def test_the_services_own_id_is_kept_and_given_back(
    stub: type[Stub], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "clearml", Stub)
    own = property(lambda self: f"task-{Stub.made.index(self)}")
    monkeypatch.setattr(Stub, "id", own, raising=False)
    for _ in range(2):
        _train(place, "service", report_to=["clearml"])
        _undo_end(place / "service")
    one, two = (made.arguments["continue_last_task"] for made in stub.made)
    assert (one, two) == (False, "task-0")
    assert read_json(place / "service" / "tracking.json")["services"] == {"clearml": "task-1"}


@pytest.mark.parametrize(
    ("where", "words"), [("start", "open"), ("2", "take numbers"), ("finish", "be closed")]
)
def test_a_tracker_that_fails_is_noted_once_and_the_run_goes_on(
    stub: type[Stub], place: Path, where: str, words: str
) -> None:
    stub.fails_at = where
    counts, said = _train(place, f"fails-{where}")
    found = [note for note in said if "tracker" in note]
    assert len(found) == 1
    assert f"the tracker 'wandb' could not {words}" in found[0]
    assert "no server. Training goes on" in found[0]
    assert counts["steps"] == 3
    assert (place / f"fails-{where}" / "model").is_dir()


def test_a_tracker_changes_no_byte_of_the_results(stub: type[Stub], place: Path) -> None:
    _train(place, "tracked")
    _train(place, "plain", report_to=[])
    tracked, plain = bytes_of(place / "tracked"), bytes_of(place / "plain")
    assert plain == {name: digest for name, digest in tracked.items() if name in plain}
    assert set(tracked) - set(plain) == {"tracking.json"}


def test_none_and_nothing_are_no_trackers(stub: type[Stub], place: Path) -> None:
    _train(place, "none", report_to="none")
    assert stub.made == []
    assert not (place / "none" / "tracking.json").exists()
    assert list(tracker_faults(("none",))) == []
    assert DpoSettings.model_validate({"report_to": "none"}).report_to == ("none",)


def test_an_own_tracker_is_named_by_its_class(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    module = types.ModuleType("own_tracker")
    module.Mine = Stub  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "own_tracker", module)
    Stub.made, Stub.fails_at = [], ""
    _train(place, "own", report_to=["own_tracker:Mine"])
    (made,) = Stub.made
    assert (made.arguments, made.finished) == ({}, True)


def test_an_unknown_tracker_and_a_missing_package_are_faults_with_their_mend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    near, far, missing, own = tracker_faults(("wandbb", "paper", "comet_ml", "no_such:Class"))
    assert "there is no tracker 'wandbb'. Did you mean 'wandb'?" in near
    assert "There are: tensorboard, wandb" in far
    assert missing == "'comet_ml' is not installed. Install it with: pip install comet-ml"
    assert "there is no module 'no_such'" in own


def test_every_name_is_one_that_accelerate_has() -> None:
    assert set(KINDS) <= {str(name) for name in tracking.LOGGER_TYPE_TO_CLASS}
    for name in KINDS:
        assert trackers._tracker_class(name).name == name


def test_settings_are_flat_and_plain_for_a_tracker() -> None:
    found = flat(DpoSettings())
    assert found["watch.prompts"] == 16
    assert found["loss.beta"] == 10.0
    assert all(isinstance(value, int | float | str) for value in found.values())
    json.dumps(found)


def test_tensorboard_itself_gets_the_numbers_and_a_resumed_run_purges_what_it_does_again(
    place: Path,
) -> None:
    if list(tracker_faults(("tensorboard",))):
        pytest.skip("needs tensorboard or tensorboardX")
    for _ in range(2):
        _, said = _train(place, "board", report_to=["tensorboard"])
        assert not [note for note in said if "tracker" in note]
        _undo_end(place / "board")
    files = list((place / "board" / "tracking").rglob("events.out.tfevents*"))
    written = b"".join(file.read_bytes() for file in files)
    # Looks after steps 0, 2 and 3, and in the second run, which goes on from step 2, after 3.
    assert written.count(b"held_out/loss") == 4
