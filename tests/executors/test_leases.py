"""Leases: one holder a shard, dead ones are taken over, and no clock is trusted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusechat.executors import leases
from fusechat.executors.leases import Lease, Leases, lease_path


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Leases]:
    made = Leases(tmp_path)
    yield made
    made.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Leases]:
    made = Leases(tmp_path)
    yield made
    made.close()


def taken(found: Lease | None) -> Lease:
    assert found is not None
    return found


def foreign(folder: Path, counter: int) -> Path:
    """A lease of some process on another host."""
    path = lease_path(folder, 0, 1)
    path.write_text(f'{{"host": "elsewhere", "pid": 1, "counter": "{counter}"}}')
    return path


def test_a_shard_has_one_holder_until_it_is_given_back(one: Leases, other: Leases) -> None:
    lease = taken(one.take(0))
    assert other.take(0) is None
    assert not other.is_free(0)
    assert taken(other.take(1)).number == 1
    one.give_back(lease)
    assert other.is_free(0)
    assert taken(other.take(0)).generation == 1


def test_the_lease_of_a_process_that_is_gone_is_taken_over_at_once_in_a_new_generation(
    one: Leases, tmp_path: Path
) -> None:
    code = "import sys, pathlib, os; from fusechat.executors.leases import Leases; "
    code += "Leases(pathlib.Path(sys.argv[1])).take(0); os._exit(0)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=True)
    assert lease_path(tmp_path, 0, 1).exists()
    assert taken(one.take(0)).generation == 2
    assert not lease_path(tmp_path, 0, 1).exists()


def test_a_lease_of_another_host_dies_when_its_counter_stands_still_and_not_before(
    one: Leases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(leases.time, "monotonic", lambda: now)
    path = foreign(tmp_path, 0)
    assert one.take(0) is None  # seen for the first time
    now += 119.0
    assert one.take(0) is None
    foreign(tmp_path, 1)
    now += 119.0
    assert one.take(0) is None  # it moved since
    now += 119.0
    assert one.take(0) is None
    now += 2.0
    assert taken(one.take(0)).generation == 2
    assert not path.exists()


def test_time_stamps_and_the_wall_clock_play_no_part(
    one: Leases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of 1970 or of next year is as alive as any; only change counts."""
    monkeypatch.setattr(leases.time, "monotonic", lambda: 5.0)
    monkeypatch.setattr("time.time", lambda: 4e9)
    path = foreign(tmp_path, 0)
    for stamp in (0, 4_000_000_000):
        os.utime(path, (stamp, stamp))
        assert one.take(0) is None


def test_a_holder_that_was_taken_over_notices_and_removes_nothing(
    one: Leases, other: Leases, tmp_path: Path
) -> None:
    lease = taken(one.take(0))
    assert lease.held()
    successor = lease_path(tmp_path, 0, 2)
    successor.write_text("{}")  # as who found this process dead would make it
    assert not lease.held()
    one.give_back(lease)
    assert successor.exists()


def test_a_lease_whose_name_was_given_to_another_is_no_longer_held(
    one: Leases, other: Leases, tmp_path: Path
) -> None:
    lease = taken(one.take(0))
    lease_path(tmp_path, 0, 1).unlink()  # taken over, finished and given back meanwhile
    again = taken(other.take(0))
    assert again.generation == 1
    assert not lease.held()
    lease.beat()  # goes into a file without a name
    assert again.held()


def test_of_two_who_find_a_dead_lease_one_gets_it(
    one: Leases, other: Leases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign(tmp_path, 0)
    for each in (one, other):
        monkeypatch.setattr(each, "_dead", lambda path: True)
    first = one._make(0, 2)
    assert first is not None
    os.close(first)
    assert other._make(0, 2) is None


def test_a_generation_below_one_that_stands_already_is_withdrawn(
    one: Leases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader looked, slept, and made generation 2 after 2 was used up and 3 stood."""
    standing = iter([[], [1, 3]])
    monkeypatch.setattr(one, "generations", lambda number: next(standing))
    assert one.take(0) is None
    assert not lease_path(tmp_path, 0, 1).exists()


def test_without_hard_links_a_lease_is_still_made_once(
    one: Leases, other: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(leases.os, "link", refuse)
    assert taken(one.take(0)).held()
    assert other.take(0) is None
