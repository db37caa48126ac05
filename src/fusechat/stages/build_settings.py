"""How a recipe says what to build: one rule per domain."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping

from pydantic import BaseModel, ConfigDict, RootModel

from fusechat.parts import RowType, Strategy, StrategyPart
from fusechat.stages.split import SplitRule

Fault = tuple[str, str]
EMITS: dict[str, tuple[RowType, ...]] = {"sft": ("Demonstration",), "dpo": ("Pair", "Triple")}
"""Row types that each table can have; a strategy fills the table that has its own."""


class DomainRule(BaseModel):
    """How the prompts of one domain become SFT and DPO rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: SplitRule
    """Which prompts go to SFT and which to DPO."""
    sft: StrategyPart | None = None
    """Picks the response to imitate."""
    dpo: StrategyPart | None = None
    """Picks the pair (or the triple)."""
    sources: tuple[str, ...] | dict[str, tuple[str, ...]] | None = None
    """Only responses of these sources are used, by both strategies or by each its own
    (`{sft: [gemma, qwen], dpo: [own]}`); null: of all that need no training. A source that a
    strategy itself names is used, too. Their order does not matter: ties go by the order of the
    recipe's sources."""

    def strategies(self) -> dict[str, Strategy]:
        """The strategies that run, by the table that they fill (`sft`, `dpo`)."""
        both = {"sft": self.sft, "dpo": self.dpo}
        return {table: strategy for table, strategy in both.items() if strategy is not None}

    def sources_of(self, table: str) -> tuple[str, ...] | None:
        """The sources whose responses a table's strategy sees; None: all that need no training,
        and those that the strategy names."""
        given = self.sources.get(table) if isinstance(self.sources, dict) else self.sources
        if given is None:
            return None
        return tuple(dict.fromkeys((*given, *self._named(table))))

    def used(self) -> tuple[str, ...] | None:
        """The sources whose responses any strategy sees; None: as of `sources_of`."""
        found = [self.sources_of(t) for t in self.strategies() if t in self.split.asks]
        if not found or any(one is None for one in found):
            return None
        return tuple(dict.fromkeys(name for one in found for name in one or ()))

    def asks_for(self, table: str, names: Iterable[str]) -> tuple[str, ...]:
        """Those of some sources that a table's strategy is given by name."""
        if table not in self.split.asks or table not in self.strategies():
            return ()
        given = self.sources_of(table)
        known = self._named(table) if given is None else given
        return tuple(name for name in names if name in known)

    def _named(self, table: str) -> tuple[str, ...]:
        strategy = self.strategies().get(table)
        return strategy.named_sources() if strategy is not None else ()

    def annotators(self) -> tuple[str, ...]:
        """Names of the annotators that are read."""
        names = [name for part in self.strategies().values() for name in part.annotators()]
        return tuple(dict.fromkeys(names))

    def faults(
        self,
        domain: str,
        annotators: Mapping[str, Collection[str] | None],
        sources: Mapping[str, Collection[str] | None],
    ) -> Iterator[Fault]:
        """What is wrong with this rule, as (setting, message with the mend)."""
        yield from self._split_faults()
        for table, strategy in self.strategies().items():
            yield from ((f"{table}.{key}", message) for key, message in strategy.faults())
            yield from _emit_faults(table, strategy)
            yield from _annotator_faults(domain, table, strategy, annotators)
        yield from self._source_faults(domain, sources)

    def _source_faults(
        self, domain: str, sources: Mapping[str, Collection[str] | None]
    ) -> Iterator[Fault]:
        by_table = isinstance(self.sources, dict)
        given: Mapping[str, Collection[str]] = (
            {f"sources.{table}": names for table, names in self.sources.items()}
            if isinstance(self.sources, dict)
            else {"sources": self.sources or ()}
        )
        named = {f"{table}.target": self._named(table) for table in self.strategies()}
        for key, names in {**given, **named}.items():
            for name in names:
                if name not in sources:
                    yield key, f"there is no source '{name}'. {_hint(name, sources)}"
                elif not _covers(sources[name], domain):
                    yield (
                        key,
                        f"the source '{name}' has no samples for the domain '{domain}'. "
                        f"Add '{domain}' to its samples, or remove it here.",
                    )
        for key, names in given.items():
            if self.sources is not None and not names:
                yield key, "an empty list leaves no response. Name a source, or use null for all."
            table = key.removeprefix("sources.")
            if by_table and table not in self.strategies():
                yield key, f"there is no strategy '{table}' here that could use them. Remove it."

    def _split_faults(self) -> Iterator[Fault]:
        for table in EMITS:
            given = getattr(self, table) is not None
            if table in self.split.asks and not given:
                yield (
                    table,
                    f"the split rule '{self.split.rule}' needs a strategy here. "
                    f"Add '{table}: {{use: ...}}', or use the rule "
                    f"'{'dpo_only' if table == 'sft' else 'sft_only'}'.",
                )
            if table not in self.split.asks and given:
                yield (
                    table,
                    f"the split rule '{self.split.rule}' never makes {table.upper()} rows. "
                    "Remove this strategy, or use another split rule.",
                )


class BuildSettings(RootModel[dict[str, DomainRule]]):
    """Domain -> its rule."""

    model_config = ConfigDict(frozen=True)

    @property
    def domains(self) -> dict[str, DomainRule]:
        """Domain -> its rule, in the recipe's order."""
        return self.root

    def annotators(self) -> tuple[str, ...]:
        """Names of the annotators that any rule reads."""
        names = [name for rule in self.root.values() for name in rule.annotators()]
        return tuple(dict.fromkeys(names))

    def emits(self, table: str) -> bool:
        """Whether any rule can fill the table `sft` or `dpo`."""
        return bool(self.row_types(table))

    def row_types(self, table: str) -> dict[str, RowType]:
        """Domain -> the type of its rows in a table, of those that have any there."""
        return {
            domain: rule.strategies()[table].emits
            for domain, rule in self.root.items()
            if table in rule.split.asks and table in rule.strategies()
        }

    def faults(
        self,
        annotators: Mapping[str, Collection[str] | None],
        sources: Mapping[str, Collection[str] | None],
        domains: Collection[str] | None,
    ) -> Iterator[Fault]:
        """Faults as (dotted key below `build`, message with the mend), strategies' own included.

        `annotators`, `sources`: name -> the domains that it judges or samples (None: all).
        `domains`: domains of the recipe's prompts; None where only the data tell.
        """
        for domain, rule in self.root.items():
            if domains is not None and domain not in domains:
                yield domain, f"no prompts have the domain '{domain}'. {_hint(domain, domains)}"
            for key, message in rule.faults(domain, annotators, sources):
                yield f"{domain}.{key}", message
        yield from self._mixed_faults()
        for domain in sorted(set(domains or ()) - set(self.root)):
            yield (
                domain,
                f"there is no rule for the domain '{domain}', so its prompts would be dropped. "
                f"Add '{domain}:' under build.",
            )

    def _mixed_faults(self) -> Iterator[Fault]:
        """Domains whose rows cannot be trained on together with those of the first."""
        types = self.row_types("dpo")
        for domain, kind in types.items():
            first, due = next(iter(types.items()))
            if kind != due and {kind, due} <= {*EMITS["dpo"]}:
                yield (
                    f"{domain}.dpo.use",
                    f"gives {kind} rows and build.{first}.dpo gives {due} rows, but one training "
                    "has rows of one type. Use strategies of one type in all domains, or the "
                    "split rule 'sft_only' here.",
                )


def _emit_faults(table: str, strategy: Strategy) -> Iterator[Fault]:
    if strategy.emits not in EMITS[table]:
        other = "dpo" if table == "sft" else "sft"
        yield (
            f"{table}.use",
            f"'{strategy.part_name()}' gives {strategy.emits} rows, but {table} needs "
            f"{' or '.join(EMITS[table])} rows. Move it to {other}, or use another strategy here.",
        )


def _annotator_faults(
    domain: str,
    table: str,
    strategy: Strategy,
    annotators: Mapping[str, Collection[str] | None],
) -> Iterator[Fault]:
    for name in dict.fromkeys(strategy.annotators()):
        keys = [k for k in ("by", "correct_by") if getattr(strategy, k, None) == name]
        place = f"{table}.{keys[0]}" if keys else table
        if name not in annotators:
            yield place, f"there is no annotator '{name}'. {_hint(name, annotators)}"
        elif not _covers(annotators[name], domain):
            yield (
                place,
                f"the annotator '{name}' does not judge the domain '{domain}'. "
                f"Add '{domain}' to its domains, or read another one.",
            )


def _covers(domains: Collection[str] | None, domain: str) -> bool:
    return domains is None or domain in domains


def _hint(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    if near:
        return f"Did you mean '{near[0]}'?"
    return f"There are: {', '.join(known)}." if known else "There are none."
