"""A disk that really fills: a small file system, mounted where an ordinary user may do so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from endpoint_stub import Stub, serving
from running import results

TINY = Path(__file__).resolve().parent.parent / "recipes" / "tiny.yaml"
NEEDED = 'command -v unshare >/dev/null && unshare -rm sh -c "mount -t tmpfs -o size=64k tmpfs $0"'
SCRIPT = """
mount -t tmpfs -o size=20k tmpfs "$1/disk" || exit 77
for size in 20 40 60 80 100 120 140; do
    mount -o remount,size="${size}k" "$1/disk"
    "$2" -m fusechat run "$3" --workspace "$1/disk/ws" --quiet >"$1/out.$size" 2>&1
    echo "$?" >"$1/code.$size"
done
mount -o remount,size=20m "$1/disk"
"$2" -m fusechat run "$3" --workspace "$1/disk/ws" --quiet >"$1/out.last" 2>&1
echo "$?" >"$1/code.last"
cp -r "$1/disk/ws" "$1/kept"
"""


def test_a_disk_that_fills_again_and_again_loses_and_changes_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if sys.platform != "linux" or subprocess.run(["sh", "-c", NEEDED, str(disk)]).returncode:
        pytest.skip("no file system can be mounted here without privileges")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = ["unshare", "-rm", "sh", "-c", SCRIPT, "sh", str(tmp_path), sys.executable, str(TINY)]
    subprocess.run(command, env=environment, check=True, timeout=240)
    codes = {path.suffix: path.read_text().strip() for path in tmp_path.glob("code.*")}
    assert codes[".20"] == codes[".60"] == "1", codes
    assert codes[".last"] == "0", (tmp_path / "out.last").read_text()
    for size in (20, 60):
        said = (tmp_path / f"out.{size}").read_text()
        assert "No space left on device. All finished work is kept." in said
        assert "Traceback" not in said
    unbroken = tmp_path / "unbroken"
    run = [sys.executable, "-m", "fusechat", "run", str(TINY), "--workspace", str(unbroken)]
    subprocess.run(run, env=environment, check=True, capture_output=True)
    assert results(tmp_path / "kept") == results(unbroken)
    shutil.rmtree(tmp_path / "kept")


SERVER_RECIPE = """
name: served
prompts: {{set: {{use: files, path: prompts.jsonl, domain: chat}}}}
sources: {{one: {{use: endpoint, model: m, base_url: "{url}", samples: 3, concurrency: 4}}}}
"""
SERVED = """
mount -t tmpfs -o size=60k tmpfs "$1/disk" || exit 77
"$2" -m fusechat run "$3" --workspace "$1/disk/ws" --quiet >"$1/out.full" 2>&1
echo "$?" >"$1/code.full"
mount -o remount,size=20m "$1/disk"
"$2" -m fusechat run "$3" --workspace "$1/disk/ws" --quiet >"$1/out.last" 2>&1
echo "$?" >"$1/code.last"
cp -r "$1/disk/ws" "$1/kept"
"""


def test_a_disk_that_is_full_in_mid_sampling_keeps_what_servers_have_answered(
    tmp_path: Path,
) -> None:
    disk, prompts = tmp_path / "disk", 120
    disk.mkdir()
    if sys.platform != "linux" or subprocess.run(["sh", "-c", NEEDED, str(disk)]).returncode:
        pytest.skip("no file system can be mounted here without privileges")
    lines = (f'{{"prompt": "question number {number}"}}\n' for number in range(prompts))
    (tmp_path / "prompts.jsonl").write_text("".join(lines))
    recipe = tmp_path / "recipe.yaml"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    stub = Stub()
    with serving(stub) as (url,):
        recipe.write_text(SERVER_RECIPE.format(url=url))
        command = ["unshare", "-rm", "sh", "-c", SERVED, "sh", str(tmp_path), sys.executable]
        subprocess.run([*command, str(recipe)], env=environment, check=True, timeout=240)
        asked = len(stub.seen)
        run = [sys.executable, "-m", "fusechat", "run", str(recipe), "--workspace"]
        whole = [*run, str(tmp_path / "whole")]
        subprocess.run(whole, env=environment, check=True, capture_output=True)
    said = (tmp_path / "out.full").read_text()
    assert (tmp_path / "code.full").read_text().strip() == "1", said
    assert "No space left on device. All finished work is kept." in said
    assert (tmp_path / "code.last").read_text().strip() == "0", (tmp_path / "out.last").read_text()
    assert prompts < asked <= prompts + 64, "most of what was answered had to be on disk"
    assert results(tmp_path / "kept") == results(tmp_path / "whole")
