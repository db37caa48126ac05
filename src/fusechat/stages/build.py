"""Build: from judged responses to the SFT and DPO tables, and to the dropped prompts.

Each prompt's responses go through the strategies of its domain; the domain's split rule
then places the prompt. Every prompt ends in exactly one of the tables `sft`, `dpo` and
`dropped` (in the first two, where `allow_overlap` says so). Rows are in prompt-table order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from fusechat.digests import canonical_json
from fusechat.errors import PartError
from fusechat.parts import Choice, PairChoice, Refusal
from fusechat.records import Demonstration, Dropped, Pair, Prompt, Record
from fusechat.stages.build_counts import Counts
from fusechat.stages.build_settings import BuildSettings
from fusechat.stages.context import UnitContext
from fusechat.stages.decisions import Decision, Picks, decide, drop_reason, place_all
from fusechat.stages.groups import Pool, PromptKey
from fusechat.tables import read_table, write_table

R = TypeVar("R", bound=Record)

CHUNK = 1000
"""Prompts whose picked texts are in memory at once."""


def build(context: UnitContext) -> dict[str, Any]:
    """Write `sft/`, `dpo/` and `dropped/`, and count what went where and why.

    Inputs: `prompts`, `sample/<source>` in the recipe's order of sources,
    `annotate/<annotator>`. Raises `PartError` where a strategy breaks its contract.
    """
    settings: BuildSettings = context.settings
    pool = Pool.read(context.inputs)
    counts = Counts(settings)
    decisions: list[Decision] = []
    context.progress.start(len(pool.prompts), "prompts")
    for number, key in enumerate(pool.prompts):
        decisions.append(Decision())
        if (rule := settings.domains.get(key.domain)) is not None:
            group, rows = pool.group(number, rule.sources)
            decisions[-1] = decide(group, rows, rule)
            counts.see(group, decisions[-1])
        context.progress.advance()
    place_all(pool.prompts, decisions, settings)
    writer = _Writer(pool, decisions, context.inputs["prompts"] / "prompts")
    write_table(context.folder / "sft", writer.rows("sft", _demonstrations), Demonstration)
    write_table(context.folder / "dpo", writer.rows("dpo", _pairs), Pair)
    dropped = (
        row for key, d in zip(pool.prompts, decisions, strict=True) for row in _dropped(key, d)
    )
    write_table(context.folder / "dropped", dropped, Dropped)
    result = counts.report(pool.prompts, decisions)
    context.log.info("%d SFT, %d DPO, %d dropped", *(result[k] for k in ("sft", "dpo", "dropped")))
    return result


RowMaker = Callable[[Prompt, Decision, Mapping[str, str]], Iterator[R]]


@dataclass(frozen=True)
class _Writer:
    """Makes rows in prompt-table order, fetching the picked texts chunk by chunk."""

    pool: Pool
    decisions: Sequence[Decision]
    prompts: Path

    def rows(self, table: str, make: RowMaker[R]) -> Iterator[R]:
        prompts = zip(read_table(self.prompts, Prompt), self.decisions, strict=True)
        placed = ((p, d) for p, d in prompts if getattr(d.place, table))
        while chunk := list(islice(placed, CHUNK)):
            wanted = {
                response_id: decision.rows[response_id]
                for _, decision in chunk
                for response_id in _ids(decision.picks[table])
            }
            by_row = self.pool.texts(wanted.values())
            texts = {response_id: by_row[row] for response_id, row in wanted.items()}
            for prompt, decision in chunk:
                yield from make(prompt, decision, texts)


def _ids(picks: Picks) -> Iterator[str]:
    for pick in () if isinstance(picks, Refusal) else picks:
        if isinstance(pick, PairChoice):
            yield from (pick.chosen_id, pick.rejected_id)
        else:
            yield pick.response_id


def _demonstrations(
    prompt: Prompt, decision: Decision, texts: Mapping[str, str]
) -> Iterator[Demonstration]:
    for pick in _of_type(decision.picks["sft"], Choice):
        yield Demonstration(
            prompt_id=prompt.id,
            messages=prompt.messages,
            response=texts[pick.response_id],
            response_id=pick.response_id,
            source=decision.sources[pick.response_id],
            origin=prompt.origin,
            domain=prompt.domain,
            score=pick.score,
            reason=pick.reason,
        )


def _pairs(prompt: Prompt, decision: Decision, texts: Mapping[str, str]) -> Iterator[Pair]:
    for pick in _of_type(decision.picks["dpo"], PairChoice):
        yield Pair(
            prompt_id=prompt.id,
            messages=prompt.messages,
            chosen=texts[pick.chosen_id],
            rejected=texts[pick.rejected_id],
            chosen_id=pick.chosen_id,
            rejected_id=pick.rejected_id,
            source=decision.sources[pick.chosen_id],
            origin=prompt.origin,
            domain=prompt.domain,
            chosen_score=pick.chosen_score,
            rejected_score=pick.rejected_score,
            margin=pick.margin,
            reason=pick.reason,
        )


P = TypeVar("P", Choice, PairChoice)


def _of_type(picks: Picks, kind: type[P]) -> Iterator[P]:
    for pick in () if isinstance(picks, Refusal) else picks:
        if not isinstance(pick, kind):
            raise PartError(f"a strategy gave {type(pick).__name__} where {kind.__name__} is due.")
        yield pick


def _dropped(key: PromptKey, decision: Decision) -> Iterator[Dropped]:
    if decision.place.sft or decision.place.dpo:
        return
    stage, reason = drop_reason(decision)
    refusals = {
        table: {"reason": picks.reason, **picks.details}
        for table, picks in decision.picks.items()
        if isinstance(picks, Refusal)
    }
    yield Dropped(
        prompt_id=key.id,
        origin=key.origin,
        domain=key.domain,
        stage=stage,
        reason=reason,
        details=canonical_json(refusals) if refusals else None,
    )
