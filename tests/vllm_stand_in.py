"""Behaves like `vllm serve MODEL ...` as far as its caller can see; for `test_vllm*.py`.

Run as a program. The environment variable `STAND_IN`, JSON, says how it misbehaves: `ready_after`
(seconds until /health answers 200), `crash` (text printed before it exits with status 3),
`ignore_sigterm`, `grandchild` (it starts one in a session of its own), `die_after` (the request at
which it kills itself; once, unless `always`), `wrong_name`. The folder `state` gets its diary.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HOW: dict[str, Any] = json.loads(os.environ.get("STAND_IN", "{}"))
STATE = Path(HOW.get("state", "."))
BEGUN = time.monotonic()
ANSWERED: list[float] = []


def note(what: str) -> None:
    """Add a line to the diary."""
    with (STATE / "diary").open("a") as file:
        file.write(f"{what} {os.getpid()} {MODEL}\n")


def option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


MODEL = sys.argv[2] if len(sys.argv) > 2 else ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def reply(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        ready = time.monotonic() - BEGUN >= HOW.get("ready_after", 0)
        if self.path == "/health":
            self.reply(200 if ready else 503, {})
        else:
            name = HOW.get("wrong_name") or option("--served-model-name")
            self.reply(200, {"object": "list", "data": [{"id": name, "max_model_len": 4096}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        once = STATE / "died"
        ANSWERED.append(time.monotonic())
        if 0 < HOW.get("die_after", 0) <= len(ANSWERED) and (
            HOW.get("always") or not once.exists()
        ):
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        text = asked["messages"][-1]["content"].upper()
        choices = [
            {
                "index": i,
                "message": {"role": "assistant", "content": f"{text} {asked.get('seed')}+{i}"},
                "finish_reason": "stop",
            }
            for i in range(asked.get("n") or 1)
        ]
        usage = {"prompt_tokens": 3, "completion_tokens": 2 * len(choices), "total_tokens": 5}
        body = {"id": "x", "object": "chat.completion", "created": 1, "model": asked["model"]}
        self.reply(200, {**body, "choices": choices, "usage": usage})


def main() -> None:
    note("start")
    if crash := HOW.get("crash"):
        print(crash, flush=True)
        sys.exit(3)
    if HOW.get("grandchild"):
        sleeper = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
        child = subprocess.Popen(sleeper, start_new_session=True)
        (STATE / "grandchild").write_text(str(child.pid))
    print("INFO the stand-in serves", MODEL, flush=True)
    server = ThreadingHTTPServer((option("--host"), int(option("--port"))), Handler)
    (STATE / "environment").write_text(json.dumps(dict(os.environ)))

    def end(*_: Any) -> None:
        if not HOW.get("ignore_sigterm"):
            note("stop")
            os._exit(0)

    signal.signal(signal.SIGTERM, end)
    server.serve_forever()


if __name__ == "__main__":
    main()
