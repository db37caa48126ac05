"""The trained model with its card, as a folder that transformers loads and the hub takes."""

from __future__ import annotations

import shutil
from pathlib import Path

from fusechat.cards.lineage import SELECT, Lineage
from fusechat.cards.model_card import CARD, TRAINED, model_card
from fusechat.errors import Fault, RecipeError
from fusechat.files import sync_folder, write_atomic


def export_model(run: Lineage, out: Path) -> tuple[str, list[str]]:
    """Copy the last trained model of a run into `out`, with its card; (its unit, file names).

    The fused model (the chosen state of `train/dpo`), else the SFT model. `out` is new, empty, or
    an earlier export.
    """
    unit = next((one for one in reversed(TRAINED) if one in run.manifests), None)
    home = run.published(unit) if unit else None
    faults = []
    if unit is None:
        faults.append(Fault("", "train", "no model of this run is trained. Run the recipe first."))
    elif home is None:
        faults.append(Fault("", SELECT, "is not done. Run the recipe first."))
    if out.exists() and any(out.iterdir()) and not (out / CARD).exists():
        faults.append(Fault(str(out), "", "is not empty, and no export. Give a new folder."))
    if faults or unit is None or home is None:
        raise RecipeError(faults)
    folder = run.folders[home] / "model"
    out.mkdir(parents=True, exist_ok=True)
    (out / CARD).unlink(missing_ok=True)
    names = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            place = out / path.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            begun = place.with_name(f".{place.name}.tmp")
            shutil.copyfile(path, begun)
            begun.replace(place)
            names.append(str(path.relative_to(folder)))
    sync_folder(out)
    write_atomic(out / CARD, model_card(run, unit).encode("utf-8", "replace"))
    return unit, names
