"""The pairs of FuseChat-3.0 for instruction following."""

from __future__ import annotations

from collections.abc import Sequence

from fusechat.groups import Array
from fusechat.parts import Groups, Seen
from fusechat.strategies._columns import NOWHERE, Eligible
from fusechat.strategies._common import eligible
from fusechat.strategies._pairs import SameSourcePairs

ALONE = "only one scored response"


class SameSourceMargin(SameSourcePairs):
    """Best over worst response of one source, their score gap inside a window (FuseChat-3.0).

    Both responses come from the same source, so that the style of a model is not what is
    preferred. Sources are ranked by their best score; the first whose highest and lowest
    response differ in text and by a gap inside [min_margin, max_margin] gives the pair
    (arXiv 2503.04222, data construction, "instruction following").
    """

    by: str
    """Annotator whose scores rank the responses, for example a reward model."""

    def ranked_by(self) -> str:
        """The annotator whose scores make the gap."""
        return self.by

    def positives_all(self, groups: Groups) -> Eligible:
        """All whole and scored responses."""
        return Eligible.of(groups, self.by)

    def negatives_all(self, groups: Groups, positives: Eligible, chosen: Array) -> Eligible:
        """The same but for the chosen one."""
        others = positives.rows.copy()
        others[chosen[chosen != NOWHERE]] = False
        return Eligible((others,), (ALONE,))

    def _positives(self, responses: Sequence[Seen]) -> tuple[list[Seen], str]:
        return eligible(responses, self.by)

    def _negatives(self, responses: Sequence[Seen], chosen: Seen) -> tuple[list[Seen], str]:
        scored, _ = eligible(responses, self.by)
        others = [r for r in scored if r.response_id != chosen.response_id]
        return others, "" if others else ALONE
