"""Tables of `source_logps` made by hand, and requests to a part that is never opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fusechat.parts import RowPart
from fusechat.records import SourceLogp
from fusechat.sources._hf_logps import HfLogps
from fusechat.sources._kept_logps import KeptLogps
from fusechat.stages.entries import LogpsEntry
from fusechat.stages.source_logps import LogpRequests
from fusechat.tables import write_table

KEPT: RowPart = KeptLogps()


def asked_of(inputs: Mapping[str, Path], part: RowPart | None = None) -> LogpRequests:
    read = part or HfLogps.model_construct(model="hub/name", dtype="float32", batch_tokens=8192)
    return LogpRequests(LogpsEntry(part=read), inputs, "one")


def store_logps(folder: Path, found: Mapping[str, tuple[float, int] | None]) -> Path:
    """A finished unit: response id -> nats and tokens, or None where the source could not say."""
    rows = [
        SourceLogp(response_id=name, source="s", status="ok", logp=value[0], tokens=value[1],
                   made_from=name)
        if value is not None
        else SourceLogp(response_id=name, source="s", status="unscorable", reason="no",
                        made_from=name)
        for name, value in found.items()
    ]  # fmt: skip
    write_table(folder / "data", rows, SourceLogp)
    return folder
