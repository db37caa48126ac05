"""A server that others wrote: `transformers serve` is sampled through `endpoint`.

It gives one choice whatever `n` says, knows no top_k and no repetition_penalty (422), draws only
where the model's generation_config says `do_sample`, and answers under the name `FOLDER@main`.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusechat.parts import Where, load_part, package_fault
from fusechat.records import Prompt, Request, Response

ZOO = Path(__file__).resolve().parents[2] / "zoo"
PROGRAM = Path(sys.executable).with_name("transformers")
NEEDS = ("fastapi", "uvicorn", "openai", "starlette")
MISSING = [name for name in NEEDS if package_fault(name, "")]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        bool(MISSING) or not PROGRAM.exists(),
        reason=f"needs transformers[serving]: no {', '.join(MISSING) or PROGRAM}",
    ),
]
WORDS = ("Say two animals.", "What is 12 - 5?", "Name three tools.")
SAMPLES = 3


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder that is served, and the base URL."""
    root = tmp_path_factory.mktemp("witness")
    model = root / "gemma"
    shutil.copytree(ZOO / "gemma", model)
    config = model / "generation_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"do_sample": True}))
    (root / "hub").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    command = [str(PROGRAM), "serve", "--device", "cpu", "--dtype", "float32"]
    with (root / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), str(model)],
            env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(root / "hub")},
            stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            until = time.monotonic() + 300
            while not healthy(port):
                assert process.poll() is None, (root / "log.txt").read_text()[-2000:]
                assert time.monotonic() < until, "not ready after 300 s"
                time.sleep(0.5)
            yield model, f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(60)


def healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def test_all_rows_are_there_though_the_server_gives_one_choice_a_request(
    served: tuple[Path, str],
) -> None:
    model, url = served
    settings = {
        "use": "endpoint", "model": str(model), "base_urls": [url], "temperature": 1.3,
        "served_as": [f"{model}@main"], "top_p": 1.0, "max_new_tokens": 24, "concurrency": 2,
    }  # fmt: skip
    part = load_part("sources", settings)
    asked = [
        Request(
            prompt=prompt, source="witness", index=index, seed=part.row_seed(42, prompt, index),
            model="gemma", made_from=f"{prompt.id}/{index}",
        )
        for prompt in (Prompt.of(text, domain="chat") for text in WORDS)
        for index in range(SAMPLES)
    ]  # fmt: skip
    with part.open(Where()) as work:
        rows: dict[str, Response] = {row.made_from: row for row in work(iter(asked))}
    assert set(rows) == {row.made_from for row in asked}
    for row in asked:
        out = rows[row.made_from]
        assert out.finish in ("stop", "length"), out.error
        assert out.seed == row.seed
        assert out.text.strip()
    assert len({row.seed for row in rows.values()}) == len(asked)
    for text in WORDS:
        prompt = Prompt.of(text, domain="chat")
        said = {rows[f"{prompt.id}/{index}"].text for index in range(SAMPLES)}
        assert len(said) > 1, "sampled texts of different seeds differ"
