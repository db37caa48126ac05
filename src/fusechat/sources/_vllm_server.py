"""One `vllm serve` under a keeper: started, waited for, watched, ended."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from fusechat.errors import PartError
from fusechat.executors import keeper

TAIL_LINES = 30
_STOP_SECONDS = 30.0
"""How long a server has to end by itself; then it is killed."""
_NOT_FOR_THE_SERVER = ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "OMP_NUM_THREADS",
                       "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # fmt: skip
"""Made for our own workers; in vLLM's environment they would bring in our packages."""
_MENDS = (
    ("CUDA out of memory|OutOfMemoryError|No available memory for the cache blocks|"
     "larger than the maximum number of tokens that can be stored in KV cache|"
     "less than desired GPU memory utilization",
     "The GPUs have too little free memory: raise tensor_parallel_size or "
     "gpu_memory_utilization, lower max_model_len, or end what else runs on them (nvidia-smi)."),
    ("[Aa]ddress already in use", "Its port is taken: leave 'port' out, so that a free one is "
     "looked for."),
    ("GatedRepoError|gated repo|401 Client Error|403 Client Error",
     "The model is gated: accept its licence on the hub and set HF_TOKEN."),
    ("unrecognized arguments|invalid choice|error: argument",
     "This vLLM does not know an option: look it up with 'vllm serve --help=all', and mend "
     "'engine' or 'options'."),
    ("RepositoryNotFoundError|is not a local folder and is not a valid model identifier",
     "There is no such model: mend 'model', or fetch it first with 'hf download'."),
    ("No CUDA GPUs are available|Failed to infer device type|NVIDIA driver",
     "vLLM sees no GPU: look at nvidia-smi and CUDA_VISIBLE_DEVICES."),
    ("World size|exceeds the number of available GPUs|number of required GPUs",
     "tensor_parallel_size (times the other parallel sizes) is more than there are GPUs."),
)  # fmt: skip
"""What its log says -> what to do."""


def find_program(command: Sequence[str]) -> str | None:
    """Why the program cannot be started, with the mend; None where it is there."""
    if shutil.which(command[0]) is not None:
        return None
    return (
        f"there is no program '{command[0]}'. vLLM needs an environment of its own (it pins "
        "another torch than ours): python -m venv /opt/vllm && /opt/vllm/bin/pip install vllm, "
        "then give 'command: [/opt/vllm/bin/vllm]' in the cluster file."
    )


def free_port() -> int:
    """A TCP port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Ours without what is meant for our workers; usage statistics are off unless asked for."""
    kept = {n: v for n, v in environment.items() if n not in _NOT_FOR_THE_SERVER}
    return {"VLLM_NO_USAGE_STATS": "1", **kept}


@dataclass
class Server:
    """A running (or ended) server; `end()` it."""

    command: Sequence[str]
    port: int
    name: str
    """The model's name as it must be served."""
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="fusechat-vllm-")))
    _keeper: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.folder / "server.log"

    def begin(self) -> None:
        """Start the keeper, and it the server."""
        script = str(Path(keeper.__file__))
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", script, str(self.log), *self.command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=server_environment(os.environ),
            start_new_session=True,
        )  # fmt: skip

    def wait_until_healthy(self, seconds: float, closing: Event | None = None) -> None:
        """Return when it serves the model, or nobody wants it any more (`closing` is set).

        Raises `PartError` with the tail of its log where it ends, or takes more than `seconds`.
        """
        deadline = time.monotonic() + seconds
        pause = 0.05
        while time.monotonic() < deadline:
            if closing is not None and closing.is_set():
                return
            if not self.running():
                raise PartError(f"{self._what()} ended before it could serve{self._outcome()}")
            if self._get("/health") is not None:
                self._check_model()
                return
            time.sleep(pause)
            pause = min(1.0, pause * 1.5)
        self.end()
        raise PartError(
            f"{self._what()} was not ready after {seconds:.0f} s (start_timeout)."
            f"{self._told()}\nLarge models load slowly from network disks: raise 'start_timeout'."
        )

    def running(self) -> bool:
        """Whether it has not ended."""
        return self._keeper is not None and self._keeper.poll() is None

    def healthy(self) -> bool:
        """Whether it runs and answers."""
        return self.running() and self._get("/health") is not None

    def interrupt(self) -> None:
        """Have a server that hangs end; it then counts as one that died."""
        if self._keeper is not None and self._keeper.stdin is not None:
            with suppress(OSError, ValueError):
                self._keeper.stdin.write(b"stop 5\n")
                self._keeper.stdin.flush()

    def end(self, seconds: float = _STOP_SECONDS) -> None:
        """Have it end, by force after `seconds`; returns when no process of it is left."""
        if self._keeper is None:
            return
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        with suppress(OSError):
            self._keeper.stdin.write(f"stop {seconds}\n".encode())
            self._keeper.stdin.flush()
        try:
            self._keeper.wait(seconds + 30)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        with suppress(OSError):
            self._keeper.stdin.close()
        self._keeper.stdout.close()
        self._keeper = None

    def remove_log(self) -> None:
        """Remove its output; after a failure it is kept, and its place told."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def death(self) -> str:
        """What there is to say of a server that has ended."""
        return f"{self._what()} ended{self._outcome()}"

    def _what(self) -> str:
        return f"the server of {self.name} ('{' '.join(self.command)}')"

    def _outcome(self) -> str:
        assert self._keeper is not None
        assert self._keeper.stdout is not None
        self._keeper.wait()
        said = self._keeper.stdout.read().decode(errors="replace").split("\n")
        last = next((line for line in reversed(said) if line), "")
        self.end()
        word, _, rest = last.partition(" ")
        if word == "exit":
            status = f"killed by signal {rest[1:]}" if rest.startswith("-") else f"status {rest}"
            return f" ({status}).{self._told()}"
        return f" ({rest or 'its keeper was killed'}).{self._told()}"

    def _told(self) -> str:
        """The tail of the log, and what it says is to be done."""
        text = tail(self.log)
        mends = [mend for pattern, mend in _MENDS if re.search(pattern, text)]
        lines = "\n".join(f"  {line}" for line in text.splitlines()) or "  (nothing)"
        return f"\nThe end of its log {self.log}:\n{lines}\n{' '.join(mends)}".rstrip()

    def _check_model(self) -> None:
        listed = self._get("/v1/models") or {}
        names = [str(model.get("id")) for model in listed.get("data", [])]
        if self.name not in names:
            self.end()
            raise PartError(
                f"the server at port {self.port} serves {names or 'no model'}, not "
                f"'{self.name}'. Another server may have taken the port; run again, or give a "
                "'port' of your own."
            )

    def _get(self, path: str) -> dict[str, list[dict[str, object]]] | None:
        """What a GET answers with status 200 ({} where it is no JSON); None otherwise."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        if answer.status != 200:
            return None
        try:
            found = json.loads(body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log, from its last 64 KiB."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 65536))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
