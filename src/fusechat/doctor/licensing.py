"""What the licences of the sources say of training on their outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from fusechat.doctor.findings import Finding
from fusechat.licences import Licence, licence_in_folder, licence_of, licence_tagged


def licence_at(name: str, folder: Path | None) -> tuple[Licence | None, str]:
    """The licence of a model, and its tag as its card gives it (`unknown` where nothing says)."""
    tag = licence_in_folder(folder) if folder is not None else None
    if tag is not None:
        return licence_tagged(tag), tag
    found = licence_of(name)
    return found, found.tag if found else "unknown"


def outputs(licence: Licence, target: Licence | None) -> Iterator[Finding]:
    """What one source's licence asks of a model that is trained on its outputs.

    `target`: the licence of the trained model's base; a family's own models are excepted from
    `forbidden`.
    """
    if licence.outputs == "allowed":
        return
    own = target is not None and target.tag == licence.tag
    barred = licence.outputs in ("forbidden", "non-commercial") and not (
        own and licence.outputs == "forbidden"
    )
    duties = "; ".join(licence.duties)
    yield Finding(
        "warning" if barred else "note",
        f"licence-{licence.outputs}",
        f"{licence.name}: {licence.says}"
        + (", which the target is" if own and licence.outputs == "forbidden" else "")
        + f" ({licence.origin}).",
        (duties[:1].upper() + duties[1:] + ".") if duties else
        ("Take another source, or ask for permission." if barred else ""),
    )  # fmt: skip


def unknown(models: Mapping[str, str]) -> Iterator[Finding]:
    """Sources whose licence nothing tells; `models`: source -> model."""
    if models:
        named = ", ".join(f"{source} ({model})" for source, model in models.items())
        yield Finding(
            "note", "licence-unknown",
            f"the licences of {named} are not known here.",
            "Look at their cards: may outputs be used to train other models?",
            "sources",
        )  # fmt: skip
