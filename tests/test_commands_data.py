"""`fusechat data`: what is there, and fetching with a stub in the hub's place."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest

from fusechat import commands_data
from fusechat.cli import main
from fusechat.tasks import _data_fetch
from fusechat.tasks._catalogue import DataFile
from fusechat.tasks._data_fetch import HubFile, git_digest, open_hub
from fusechat.tasks._data_files import (
    benchmark_tasks,
    fetch_target,
    file_states,
    hub_place,
    is_private,
)

PINNED = "b189ec765aa7ed75c8acfea42df31fdae71f97be"
PRO = b"MMLU-Pro, made up"


class StubHub:
    """A hub of two data sets; `broken` names files that come with other bytes."""

    def __init__(self, sets: dict[str, dict[str, bytes]], broken: Sequence[str] = ()) -> None:
        self.sets, self.broken = sets, broken
        self.asked: list[tuple[str, str, str]] = []

    def files(self, repo: str, revision: str) -> list[HubFile]:
        if repo not in self.sets:
            raise OSError(f"no network: {repo}")
        return [
            HubFile(path, hashlib.sha256(data).hexdigest(), "")
            for path, data in self.sets[repo].items()
        ]

    def fetch(self, repo: str, revision: str, path: str, folder: Path) -> Path:
        self.asked.append((repo, revision, path))
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(self.sets[repo][path] + (b"!" if path in self.broken else b""))
        return place


def use(hub: StubHub, monkeypatch: pytest.MonkeyPatch) -> StubHub:
    monkeypatch.setattr(commands_data, "open_hub", lambda: hub)
    return hub


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty hub cache, whatever this machine has."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    assert main(["data", "--json", *arguments]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def files_of(found: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    (entry,) = [one for one in found["benchmarks"] if one["benchmark"] == name]
    return {one["role"]: one for one in entry["files"]}


def test_every_benchmark_says_where_its_files_are_and_under_which_licence() -> None:
    tasks = benchmark_tasks()
    assert {"mmlu", "mmlu_pro", "mmlu_redux", "gpqa_diamond"} <= set(tasks)
    for name, task in tasks.items():
        roles = [file.role for file in task.data]
        assert len(set(roles)) == len(roles), name
        for file in task.data:
            assert file.names, (name, file.role)
            assert file.licence, (name, file.role)
            assert file.home, (name, file.role)
            assert all(len(sha) == 64 for sha in file.sha256), (name, file.role)
            assert all(not Path(one).is_absolute() for one in file.names), (name, file.role)
            if file.revision is not None:
                assert len(file.revision) == 40, (name, file.role)


def test_what_the_hub_has_at_a_commit_has_a_place_where_it_is_found(tmp_path: Path) -> None:
    for name, task in benchmark_tasks().items():
        for file in task.data:
            if not hub_place(file):
                continue
            target = fetch_target(file)
            assert target is not None, (name, file.role)
            place = tmp_path / name / file.role / target
            place.parent.mkdir(parents=True)
            place.touch()
            assert file.find(str(tmp_path / name / file.role)) == place, (name, file.role)


def test_the_place_of_a_fetched_file_has_the_hubs_form() -> None:
    def of(names: tuple[str, ...], inner: str) -> str:
        file = DataFile("items", names, "l", "h", ("o/d", inner), PINNED)
        return str(fetch_target(file))

    assert of(("a/x.jsonl", "a/x.parquet"), "data/t.parquet") == "a/x.parquet"
    assert of(("a/x.jsonl", "d/t*.parquet"), "data/test-0.parquet") == "d/test-0.parquet"
    assert of(("a/x.jsonl",), "data/t.parquet") == "None"
    assert of(("mc/set-2.0", "set"), ".") == "mc/set-2.0"


def test_states_say_found_known_changed_and_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mmlu_pro_test.parquet").write_bytes(b"another file")
    (tmp_path / "mmlu-redux-2.0").mkdir()
    found = told(capsys, "--data-dir", str(tmp_path))
    pro = files_of(found, "mmlu_pro")["items"]
    assert (pro["hash"], pro["items"], pro["licence"]) == ("changed", 12_032, "MIT")
    assert pro["sha256"] == hashlib.sha256(b"another file").hexdigest()
    assert files_of(found, "mmlu_redux")["items"]["hash"] == "unknown"
    mmlu = files_of(found, "mmlu")["items"]
    assert (mmlu["path"], mmlu["hash"]) == (None, "")
    entries = {one["benchmark"]: one for one in found["benchmarks"]}
    assert entries["mmlu_pro"]["skipped"] is None
    assert "mc/mmlu_test.parquet is not in" in entries["mmlu"]["skipped"]
    assert entries["mmlu_redux"]["lacks"] == ["The data are a part: 0 of 5,700 questions."]


def test_the_table_names_what_is_missing_and_the_way_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "--data-dir", str(tmp_path), "--benchmarks", "gpqa_diamond,mmlu"]) == 0
    text = capsys.readouterr().out
    assert "missing  items, 198 items: gpqa/gpqa_diamond.csv\n" in text
    assert "never fetched for you" in text
    assert "missing  items, 14,042 items: mc/mmlu_test.parquet, can be fetched\n" in text
    assert "0 of 2 benchmarks have the files that they need." in text


def test_the_real_files_are_all_known(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(capsys, "--data-dir", str(shared_data), "--benchmarks", "mmlu,mmlu_pro")
    hashes = {one["benchmark"]: one["files"][0]["hash"] for one in found["benchmarks"]}
    assert hashes == {"mmlu": "known", "mmlu_pro": "known"}
    sample = told(capsys, "--data-dir", str(shared_data), "--benchmarks", "mmlu_redux")
    assert files_of(sample, "mmlu_redux")["sample"]["hash"] == "known"
    assert files_of(sample, "mmlu_redux")["items"]["path"] is None


def test_fetch_puts_a_file_at_its_place_from_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inner = "data/test-00000-of-00001.parquet"
    hub = use(StubHub({"TIGER-Lab/MMLU-Pro": {inner: PRO, "README.md": b"no"}}), monkeypatch)
    folder = tmp_path / "new" / "data"
    found = told(capsys, "--fetch", "--data-dir", str(folder), "--benchmarks", "mmlu_pro")
    place = folder / "mc" / "mmlu_pro_test.parquet"
    assert place.read_bytes() == PRO
    assert hub.asked == [("TIGER-Lab/MMLU-Pro", PINNED, inner)]
    assert [one["path"] for one in found["fetched"]] == [str(place)]
    assert files_of(found, "mmlu_pro")["items"]["hash"] == "changed"
    assert sorted(p.name for p in folder.iterdir()) == ["mc"]

    again = told(capsys, "--fetch", "--data-dir", str(folder), "--benchmarks", "mmlu_pro")
    assert (len(hub.asked), again["fetched"]) == (1, [])


def test_fetch_puts_a_folder_there_when_all_of_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repo = "edinburgh-dawg/mmlu-redux-2.0"
    tree = {"anatomy/data-0.arrow": b"a", "virology/data-0.arrow": b"v", ".gitattributes": b""}
    use(StubHub({repo: tree}, broken=["virology/data-0.arrow"]), monkeypatch)
    arguments = ("--fetch", "--data-dir", str(tmp_path), "--benchmarks", "mmlu_redux")
    found = told(capsys, *arguments, code=1)
    assert "came damaged" in found["failed"][0]["fault"]
    assert not (tmp_path / "mc" / "mmlu-redux-2.0").exists()

    use(StubHub({repo: tree}), monkeypatch)
    found = told(capsys, *arguments)
    (entry,) = found["benchmarks"]
    assert "data-0.arrow cannot be read" in entry["lacks"][0]
    home = tmp_path / "mc" / "mmlu-redux-2.0"
    assert sorted(str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()) == [
        "anatomy/data-0.arrow", "virology/data-0.arrow",
    ]  # fmt: skip
    assert not (tmp_path / _data_fetch.UNDER_WAY).exists()


def test_a_failure_says_which_file_and_the_way_by_hand_and_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inner = "all/test-00000-of-00001.parquet"
    use(StubHub({"cais/mmlu": {inner: b"m"}}), monkeypatch)
    names = "mmlu_pro,mmlu"
    assert main(["data", "--fetch", "--data-dir", str(tmp_path), "--benchmarks", names]) == 1
    out, err = capsys.readouterr()
    assert (tmp_path / "mc" / "mmlu_test.parquet").read_bytes() == b"m"
    assert (
        "mmlu_pro: mc/mmlu_pro_test.parquet was not fetched: no network: TIGER-Lab/MMLU-Pro. By "
        "hand: hub: TIGER-Lab/MMLU-Pro, data/test-00000-of-00001.parquet (licence: MIT), and put "
        f"it at {tmp_path / 'mc/mmlu_pro_test.parquet'}."
    ) in err
    assert "1 of 2 benchmarks" in out


def test_gpqa_is_never_fetched_even_where_its_entry_names_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = benchmark_tasks()["gpqa_diamond"]
    assert is_private(task)
    file = task.data[0]
    named = DataFile(
        file.role, file.names, file.licence, file.home, ("Idavidrein/gpqa", "gpqa_diamond.csv"),
        PINNED,
    )  # fmt: skip
    monkeypatch.setattr(task, "data", (named,))
    hub = use(StubHub({"Idavidrein/gpqa": {"gpqa_diamond.csv": b"secret"}}), monkeypatch)
    found = told(capsys, "--fetch", "--data-dir", str(tmp_path), "--benchmarks", "gpqa_diamond")
    assert hub.asked == []
    assert files_of(found, "gpqa_diamond")["items"]["fetch"] == ""


@pytest.mark.parametrize(
    ("arguments", "told_as"),
    [
        (["--fetch"], "--fetch  goes with --data-dir"),
        (["--data-dir", "no/such/folder"], "--data-dir  there is no folder"),
        (["--benchmarks", "mmlu_prp"], "no benchmark 'mmlu_prp'. Did you mean 'mmlu_pro'?"),
        (["--benchmarks", ","], "name at least one"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(
    arguments: list[str], told_as: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", *arguments]) == 2
    assert told_as in capsys.readouterr().err


def test_the_hubs_client_is_asked_for_a_data_set_at_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a module with the functions of `huggingface_hub`, and against its own signatures."""
    asked: list[tuple[Any, ...]] = []
    large = SimpleNamespace(path="a.parquet", blob_id="x", lfs=SimpleNamespace(sha256="5" * 64))
    small = SimpleNamespace(path="b.json", blob_id="0" * 40, lfs=None)

    def tree(repo: str, **options: Any) -> list[Any]:
        asked.append((repo, options))
        return [large, small, SimpleNamespace(path="folder", tree_id="y")]

    def download(repo: str, path: str, **options: Any) -> str:
        asked.append((repo, path, options))
        return str(tmp_path / path)

    client = SimpleNamespace(
        HfApi=lambda: SimpleNamespace(list_repo_tree=tree), hf_hub_download=download
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    hub = open_hub()
    assert list(hub.files("o/d", PINNED)) == [
        HubFile("a.parquet", "5" * 64, "x"), HubFile("b.json", None, "0" * 40),
    ]  # fmt: skip
    assert hub.fetch("o/d", PINNED, "b.json", tmp_path) == tmp_path / "b.json"
    assert asked == [
        ("o/d", {"recursive": True, "revision": PINNED, "repo_type": "dataset"}),
        ("o/d", "b.json", {"repo_type": "dataset", "revision": PINNED, "local_dir": tmp_path}),
    ]


def test_the_installed_client_takes_what_it_is_asked() -> None:
    import inspect

    hub = pytest.importorskip("huggingface_hub")
    tree = inspect.signature(hub.HfApi.list_repo_tree).parameters
    assert {"recursive", "revision", "repo_type"} <= set(tree)
    download = inspect.signature(hub.hf_hub_download).parameters
    assert {"repo_type", "revision", "local_dir"} <= set(download)


def test_without_the_hubs_client_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert main(["data", "--fetch", "--data-dir", str(tmp_path)]) == 2
    assert "fusechat[hub]" in capsys.readouterr().err


def test_a_small_file_is_held_against_gits_digest(tmp_path: Path) -> None:
    """`printf 'hello\\n' | git hash-object --stdin`."""
    (tmp_path / "f").write_bytes(b"hello\n")
    assert git_digest(tmp_path / "f") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_files_of_a_fetch_under_way_are_not_taken_for_the_benchmarks(tmp_path: Path) -> None:
    place = tmp_path / _data_fetch.UNDER_WAY / "cais--mmlu" / "mmlu_test.parquet"
    place.parent.mkdir(parents=True)
    place.touch()
    (state,) = file_states(["mmlu"], str(tmp_path))
    assert state.path is None
    assert str(PurePosixPath(state.fetch)) == "mc/mmlu_test.parquet"
