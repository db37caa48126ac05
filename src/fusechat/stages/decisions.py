"""What the strategies say of each prompt, and where the split rule puts it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from fusechat.errors import PartError
from fusechat.parts import Choice, Group, PairChoice, Refusal, Strategy
from fusechat.stages.build_settings import BuildSettings, DomainRule
from fusechat.stages.groups import PromptKey
from fusechat.stages.split import Item, Place

Picks = Sequence[Choice] | Sequence[PairChoice] | Refusal
UNRULED = "no build rule for this domain"


@dataclass
class Decision:
    """What the strategies said of one prompt, and where it goes."""

    picks: dict[str, Picks] = field(default_factory=dict)
    """Table (`sft`, `dpo`) -> picks or refusal."""
    rows: dict[str, int] = field(default_factory=dict)
    """Response id -> row in the pool, of the picked responses."""
    sources: dict[str, str] = field(default_factory=dict)
    """Response id -> source, of the picked responses."""
    place: Place = field(default_factory=Place)

    def gives(self, table: str) -> bool:
        """Whether the strategy of a table picked anything."""
        return table in self.picks and not isinstance(self.picks[table], Refusal)


def decide(group: Group, rows: Sequence[int], rule: DomainRule) -> Decision:
    """Let a domain's strategies pick from one prompt's responses; `rows`: theirs in the pool."""
    decision = Decision()
    places = {r.response_id: (row, r) for row, r in zip(rows, group.responses, strict=True)}
    for table, strategy in rule.strategies().items():
        if table not in rule.split.asks:
            continue
        picks = strategy.select(group)
        decision.picks[table] = picks
        for response_id in _picked_ids(strategy, group, picks):
            row, response = places[response_id]
            decision.rows[response_id] = row
            decision.sources[response_id] = response.source
    return decision


def place_all(
    prompts: Sequence[PromptKey], decisions: Sequence[Decision], settings: BuildSettings
) -> None:
    """Apply each domain's split rule to its prompts."""
    items: dict[str, list[Item]] = defaultdict(list)
    for key, decision in zip(prompts, decisions, strict=True):
        item = Item(key.id, key.origin, decision.gives("sft"), decision.gives("dpo"))
        items[key.domain].append(item)
    places: dict[str, Place] = {}
    for domain, rule in settings.domains.items():
        places.update(rule.split.place(items[domain]))
    for key, decision in zip(prompts, decisions, strict=True):
        decision.place = places.get(key.id, Place())


def drop_reason(decision: Decision) -> tuple[str, str]:
    """Stage and reason of a dropped prompt."""
    refusal = decision.picks.get(decision.place.blame)
    if isinstance(refusal, Refusal):
        return decision.place.blame, refusal.reason
    return "split", UNRULED


def _picked_ids(strategy: Strategy, group: Group, picks: Picks) -> list[str]:
    name = f"the strategy '{strategy.part_name()}'"
    if isinstance(picks, Refusal):
        return []
    if not picks:
        raise PartError(f"{name} gave nothing for prompt {group.prompt_id}; it must say why not.")
    ids: list[str] = []
    for pick in picks:
        if isinstance(pick, PairChoice):
            if pick.chosen_id == pick.rejected_id:
                raise PartError(f"{name} paired a response with itself (prompt {group.prompt_id}).")
            ids += [pick.chosen_id, pick.rejected_id]
        else:
            ids.append(pick.response_id)
    whole = {r.response_id: r.whole for r in group.responses}
    for response_id in ids:
        if not whole.get(response_id, False):
            raise PartError(
                f"{name} picked {response_id}, which is no whole response of prompt "
                f"{group.prompt_id}. Pick only from group.responses where .whole is true."
            )
    return ids
