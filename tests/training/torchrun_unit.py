"""A rank that torchrun started. Usage: torchrun ... torchrun_unit.py FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from rank_work import train_unit

from fusechat.training.ranks import leave_ranks

if __name__ == "__main__":
    train_unit(Path(sys.argv[1]), "unit", where={"sharding": "fsdp2"})
    leave_ranks()
