"""Runs the app of an engine on a socket until the process is told to stop."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from fusechat.errors import PartError

_PATIENCE = 10
"""Seconds that answers under way get when the server stops."""


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; raises `PartError` with the mend where the place is taken."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise PartError(
            f"cannot listen at {host}, port {port}: {error}. Another program may be there; "
            "give another --port, or 0 for any free one."
        ) from error


def url_of(place: socket.socket) -> str:
    """The URL of a bound socket, without a path."""
    host, port = place.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(app: Any, place: socket.socket, ready: str) -> None:
    """Print `ready`, answer until SIGTERM or SIGINT, then finish what is under way."""
    config = uvicorn.Config(
        app,
        log_level="critical",  # faults on purpose would be logged as errors of ours
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=_PATIENCE,
        timeout_keep_alive=75,
    )
    _Server(config, ready).run(sockets=[place])


class _Server(uvicorn.Server):  # type: ignore[misc]
    """Says when it is ready, and ends quietly where a signal stops it."""

    def __init__(self, config: uvicorn.Config, ready: str) -> None:
        super().__init__(config)
        self.should_exit: bool = False
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        if self._ready:
            print(self._ready, flush=True)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT stop it; a second one does not wait for answers under way."""
        before = {sig: signal.signal(sig, self._stop) for sig in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)

    def _stop(self, *_: Any) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
