"""Run a command beside servers: `python -m fusechat.serving NAME=MODEL@PORT ... -- COMMAND ...`.

Each server is `fusechat serve MODEL --served-model-name NAME --port PORT`; words before `--` that
begin with a dash go to every server. The servers start one after the other, the command begins
when all are ready, and they stop when it ends; its exit code is this one's.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from fusechat.errors import FusechatError
from fusechat.serving.child import serving

_FORM = "say: python -m fusechat.serving NAME=MODEL@PORT ... [OPTION ...] -- COMMAND ..."


@dataclass(frozen=True)
class Server:
    """One server of the call."""

    name: str
    model: str
    port: int


def parse(words: Sequence[str]) -> tuple[list[Server], list[str], list[str]]:
    """Servers, options of all servers, command; raises `FusechatError` where the form is wrong."""
    if "--" not in words or not words[words.index("--") + 1 :]:
        raise FusechatError(_FORM)
    middle = words.index("--")
    before, command = words[:middle], list(words[middle + 1 :])
    first = next((at for at, word in enumerate(before) if word.startswith("-")), len(before))
    servers = [_server(word) for word in before[:first]]
    if not servers:
        raise FusechatError(_FORM)
    return servers, list(before[first:]), command


def _server(word: str) -> Server:
    name, equals, rest = word.partition("=")
    model, at, port = rest.rpartition("@")
    if not (name and equals and model and at and port.isdigit()):
        raise FusechatError(f"'{word}' is not NAME=MODEL@PORT; {_FORM}")
    return Server(name, model, int(port))


def main(words: Sequence[str]) -> int:
    """Start all, run the command, stop all."""
    try:
        servers, options, command = parse(words)
        with ExitStack() as stack:
            for one in servers:
                child = stack.enter_context(
                    serving(one.model, name=one.name, port=one.port, options=options)
                )
                print(f"{one.name} is served at {child.url}", file=sys.stderr, flush=True)
            return subprocess.run(command).returncode
    except FusechatError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        print(f"the command cannot be run: {error}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
