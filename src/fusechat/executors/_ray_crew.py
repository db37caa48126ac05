"""The actors of one row-wise unit on a Ray cluster: handing out, taking in, burying.

Each actor has one call under way (`RowActor.exchange`), which comes back when it has something
to say. A row that is handed out stands in its actor's `held` until it is answered; what a dead
actor held is handed out again.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from fusechat.errors import PartError
from fusechat.executors._ray_actor import Message, RowActor
from fusechat.executors.answers import failure
from fusechat.executors.contract import Batch, RowOut
from fusechat.parts import RowPart, Where

log = logging.getLogger("fusechat.ray")
POLL = 1.0
"""Seconds that an actor without news lets a call wait."""
AHEAD = 2
"""Batches that an actor of a streaming part has lying ready."""
CLOSING = 300.0
"""Seconds that actors have to close their parts when all rows are answered."""
PLACEMENT = 900.0
"""Seconds without any actor placed after which the run gives up."""


@dataclass(eq=False)
class _Member:
    """One actor, and what it holds."""

    slot: int
    handle: Any
    outgoing: list[Message]
    ref: Any = None
    wants: int = 0
    held: dict[str, tuple[Any, Batch]] = field(default_factory=dict)
    suspect: bool = False
    """Whether it holds rows that may kill it, since another died with them."""
    node: str | None = None
    heard: bool = False
    """Whether it has ever answered a call: until then Ray may not have placed it."""
    working: bool = False
    """Whether its part is open and has asked for rows."""
    ended: bool = False
    done: bool = False


@dataclass
class Crew:
    """The actors of one unit."""

    part: RowPart
    where: Where
    source: Iterator[Batch]
    job: int
    options: Mapping[str, Any]
    environment: Mapping[str, str]
    max_restarts: int
    notes: list[Mapping[str, Any]]
    _members: list[_Member] = field(default_factory=list)
    _again: deque[Batch] = field(default_factory=deque)
    _restarts: dict[int, int] = field(default_factory=dict)
    _dry: bool = False

    def run(self, count: int) -> Iterator[Sequence[RowOut]]:
        """Answer every row of the source with `count` actors; yields groups of rows."""
        import ray

        self._hire(range(count))
        heard = time.monotonic()
        while self._busy():
            members = {member.ref: member for member in self._members if member.ref is not None}
            ready, _ = ray.wait(list(members), num_returns=1, timeout=POLL)
            for ref in ready:
                yield from self._answered(members[ref])
            if ready or any(member.heard for member in self._members):
                heard = time.monotonic()
            elif time.monotonic() - heard > PLACEMENT:
                raise PartError(_unplaced(self.options))
        yield from self._close()

    def dismiss(self) -> None:
        """Kill all actors; those that closed their part have nothing left to lose."""
        for member in self._members:
            _kill(member)
        self._members = []

    def _busy(self) -> bool:
        """Whether a row is left to hand out or to wait for."""
        return self._left() or any(member.held for member in self._members)

    def _close(self) -> Iterator[Sequence[RowOut]]:
        """Let the parts that are open close; an actor that has none is not waited for."""
        import ray

        deadline = time.monotonic() + CLOSING
        for member in self._members:
            member.done = member.done or not member.working
        while (open_ := [m for m in self._members if not m.done]) and time.monotonic() < deadline:
            refs = {member.ref: member for member in open_}
            for ref in ray.wait(list(refs), num_returns=1, timeout=POLL)[0]:
                yield from self._answered(refs[ref])

    def _hire(self, slots: Sequence[int]) -> None:
        import ray

        made = ray.remote(RowActor).options(max_restarts=0, max_task_retries=0, **self.options)
        for slot in slots:
            member = _Member(slot, made.remote(), [])
            self._members.append(member)
            self._open(member)
            self._call(member)

    def _open(self, member: _Member) -> None:
        """Have the part opened; on an actor that has closed it, opened again."""
        pickled = pickle.dumps((self.part, self.where))
        member.working = member.ended = member.done = member.suspect = False
        member.wants = 0
        member.outgoing.append(("open", self.job, pickled, dict(self.environment)))

    def _call(self, member: _Member) -> None:
        messages, member.outgoing = member.outgoing, []
        member.ref = member.handle.exchange.remote(messages, POLL)

    def _answered(self, member: _Member) -> Iterator[Sequence[RowOut]]:
        """Take what an actor says, and give it what it wants."""
        import ray

        try:
            messages: list[Message] = ray.get(member.ref)
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError as error:
            yield from self._bury(member, error)
            return
        member.heard = True
        for message in messages:
            yield from self._take(member, message)
        self._give(member)
        member.ref = None
        if not (member.done and not member.outgoing):
            self._call(member)

    def _take(self, member: _Member, message: Message) -> Iterator[Sequence[RowOut]]:
        kind, content = message[0], message[-1]
        if kind == "rows":
            for row in content:
                member.held.pop(row.made_from, None)
            member.suspect = member.suspect and bool(member.held)
            yield content
        elif kind == "want":
            ahead = 0 if member.working or self.part.cut([]) is not None else AHEAD
            member.wants += 1 + ahead
            member.working = True
        elif kind == "note":
            self.notes.append(content)
        elif kind == "done":
            member.done = True
            member.held.clear()  # what the part left out; the job counts it
            _raise_if_failed(self.part, content)
            if self._left():
                self._open(member)

    def _left(self) -> bool:
        """Whether there may be a row to hand out."""
        return bool(self._again) or not self._dry

    def _give(self, member: _Member) -> None:
        """Hand out batches; where none is left, the end, so that the part answers what it has.

        While rows over which an actor died are out, their actor gets nothing else.
        """
        while member.wants > 0 and not (member.suspect or member.ended or member.done):
            batch = self._next()
            if batch is None:
                member.ended = True
                member.outgoing.append(("end", self.job))
                return
            member.wants -= 1
            member.suspect = batch.attempt > 0
            member.held |= {row.made_from: (row, batch) for row in batch.rows}
            member.outgoing.append(("batch", self.job, batch.rows, member.suspect))

    def _next(self) -> Batch | None:
        if self._again:
            return self._again.popleft()
        batch = None if self._dry else next(self.source, None)
        self._dry = batch is None
        return batch

    def _bury(self, member: _Member, error: Exception) -> Iterator[Sequence[RowOut]]:
        """Requeue what a dead actor held, and put another in its place."""
        _kill(member)
        self._members.remove(member)
        lost = _lost_node(error)
        what = "the node of an actor is gone" if lost else "an actor died"
        log.warning(
            "%s; it held %d rows: %s", what, len(member.held), str(error).partition("\n")[0]
        )
        yield from self._requeue(member, blamed=not lost)
        restarts = self._restarts.get(member.slot, 0)
        # A search for the row that kills ends by itself; and nodes may come and go for ever.
        free = lost or member.suspect
        if free or restarts < self.max_restarts:
            self._restarts[member.slot] = restarts + (not free)
            self._hire([member.slot])
        elif not self._members:
            raise PartError(
                f"all Ray actors of {self.part.part_name()} died, each after {restarts} restarts. "
                f"The last one: {error}\nAll rows so far are kept; run again to go on."
            )
        else:
            for idle in [m for m in self._members if m.done and m.ref is None and self._left()]:
                self._open(idle)
                self._call(idle)

    def _requeue(self, member: _Member, blamed: bool) -> Iterator[Sequence[RowOut]]:
        """Rows of a lost node go out again as they were; else they share the blame in halves."""
        rows = [row for row, _ in member.held.values()]
        batches = {id(batch): batch for _, batch in member.held.values()}
        if not blamed:
            for batch in batches.values():
                left = [row for row in batch.rows if row.made_from in member.held]
                self._again.append(Batch(left, batch.attempt))
        elif rows:
            attempt = max(batch.attempt for batch in batches.values())
            retries = Batch(rows, attempt).retries(rows)
            self._again.extend(retries)
            if not retries:
                yield [failure(rows[0], "its worker died over it, and then another one")]


def _kill(member: _Member) -> None:
    import ray

    with suppress(Exception):
        ray.kill(member.handle, no_restart=True)


def _lost_node(error: Exception) -> bool:
    """Whether an actor is gone because its node is, or is out of reach; not by a row's fault."""
    import ray

    gone = (ray.exceptions.ActorUnavailableError, ray.exceptions.NodeDiedError)
    return isinstance(error, gone) or "its node has died" in str(error)


def _unplaced(options: Mapping[str, Any]) -> str:
    wanted = {name: value for name, value in options.items() if name != "runtime_env"}
    return (
        f"Ray has placed no actor for {PLACEMENT / 60:.0f} minutes; each needs {wanted}. See "
        "'ray status' for what is free, and give less in 'resources' of the cluster file, or "
        "wait for the other jobs of the cluster. All rows so far are kept."
    )


def _raise_if_failed(part: RowPart, outcome: tuple[str, bool] | None) -> None:
    if outcome is not None:
        text, mendable = outcome
        raise PartError(text if mendable else f"{part.part_name()} failed:\n{text}")
