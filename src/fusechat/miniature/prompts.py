"""Problems of the miniature world as the prompts that the rest of the system reads."""

from __future__ import annotations

from collections.abc import Iterator

from fusechat.miniature.world import SPLITS, distinct
from fusechat.records import Prompt


def prompts(domain: str, split: str, seed: int, size: int) -> Iterator[Prompt]:
    """The first `size` different prompts of a domain's split; the same for the same arguments.

    Raises `ValueError` for an unknown split, or where there are fewer than `size`.
    """
    known = {name: name for name in SPLITS}
    if split not in known:
        raise ValueError(f"the miniature world has no split '{split}'; it has {', '.join(SPLITS)}.")
    for problem in distinct(domain, known[split], f"prompts|{seed}", size):
        yield Prompt.of(
            problem.text,
            domain=domain,
            origin=f"mini_{domain}",
            licence="Apache-2.0",
            **problem.gold,
        )
