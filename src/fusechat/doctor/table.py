"""An examination as text: a table of the models, the findings, and what they come to."""

from __future__ import annotations

from fusechat.doctor.findings import LEVELS, Examination, ModelRow, shortened
from fusechat.licences import NO_ADVICE

_HEAD = ("place", "model", "bos", "system", "end", "date", "context", "licence")


def format_examination(found: Examination) -> str:
    """The whole examination, for a terminal."""
    blocks = [_table(found.models)] if found.models else []
    blocks += [str(one) for one in found.findings]
    counts = ", ".join(
        f"{len(found.of(level))} {level}{'' if len(found.of(level)) == 1 else 's'}"
        for level in LEVELS
    )
    unseen = sum(not row.looked for row in found.models)
    tail = f"{counts} in {found.recipe}."
    if unseen:
        tail += f" {unseen} of {len(found.models)} models could not be looked at."
    if any(row.licence not in ("?", "unknown", "") for row in found.models):
        tail += f"\nlicences: {NO_ADVICE}"
    return "\n".join([*blocks, tail])


def _table(rows: tuple[ModelRow, ...]) -> str:
    cells = [_HEAD] + [
        (row.place, shortened(row.model, 32), row.bos, row.system, row.end, row.date, row.context,
         row.licence)
        for row in rows
    ]  # fmt: skip
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )
