"""The workspace lock: one run at a time, freed by the kernel when its holder dies."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fusechat.errors import WorkspaceBusyError, WorkspaceError


@contextmanager
def workspace_lock(workspace: Path, holder: str, wait: bool = False) -> Iterator[None]:
    """Hold the workspace; `holder` says what for, for those who are refused.

    Raises `WorkspaceBusyError` at once where another run holds it, or waits with `wait`.
    """
    with _lock_file(workspace) as handle:
        patience = 10  # one who only looks holds the lock for an instant, and leaves no name
        while not _try_lock(handle):
            if not wait and (patience == 0 or lock_holder(workspace) is not None):
                raise WorkspaceBusyError(_refusal(workspace))
            patience -= 1
            time.sleep(0.5 if wait else 0.02)
        handle.truncate(0)
        state = {"pid": os.getpid(), "host": socket.gethostname(), "run": holder}
        handle.write(json.dumps(state))
        handle.flush()
        try:
            yield
        finally:
            handle.truncate(0)


def _lock_file(workspace: Path) -> IO[str]:
    try:
        workspace.mkdir(parents=True, exist_ok=True)
        return (workspace / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise WorkspaceError(
            f"the workspace {workspace} cannot be written: {error.strerror}. Give a folder that "
            "you may write to: --workspace FOLDER."
        ) from error


def lock_holder(workspace: Path) -> dict[str, Any] | None:
    """Who holds the workspace now (`pid`, `host`, `run`), or None."""
    path = workspace / ".lock"
    if not path.exists():
        return None
    # A shared file system locks only what is open for writing.
    with path.open("r+" if os.access(path, os.W_OK) else "r", encoding="utf-8") as handle:
        if _try_lock(handle):
            return None
    text = path.read_text(encoding="utf-8")
    state: dict[str, Any] = json.loads(text) if text else {"pid": "?", "host": "?", "run": "?"}
    return state


def _try_lock(handle: Any) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        raise WorkspaceError(
            f"the file system of {handle.name} has no locks ({error.strerror}), so nothing would "
            "keep two runs apart. Mount it with them (Lustre: -o flock), or give another "
            "--workspace."
        ) from error
    return True


def _refusal(workspace: Path) -> str:
    state = lock_holder(workspace) or {"pid": "?", "host": "?", "run": "?"}
    return (
        f"{workspace} is in use by another run ({state['run']}, process {state['pid']} on "
        f"{state['host']}). Wait for it (--wait does so), stop it, or give another --workspace. "
        "Nothing was changed."
    )
