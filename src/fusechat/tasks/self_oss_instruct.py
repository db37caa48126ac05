"""Self-OSS-Instruct: programming tasks that StarCoder2 wrote, with answers that ran."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from fusechat.records import Prompt
from fusechat.settings import HubSetName
from fusechat.tasks._published import PublishedSet, text_of
from fusechat.tasks._tests_in_text import code_and_tests


class SelfOssInstruct(PublishedSet):
    """Tasks of bigcode/self-oss-instruct-sc2-exec-filter-50k (50,661; ODC-By) that bring tests.

    FuseChat-3.0 has 12,892 prompts of it: 10,160 for SFT, 2,732 for DPO (README, Dataset; 13,696
    in an earlier state), those "with test cases". Columns `fingerprint`, `sha1`, `seed`,
    `response`, `concepts`, `prompt`, `instruction`, `id`, one split `train`: from the set's own
    card. Its pipeline (bigcode-project/starcoder2-self-align, `sanitize_data.py`) cut the tests
    off the responses and wrote up to five lines of them into about half of the instructions that
    had no example: "Your code should pass the following assertion". Those are the tests here;
    else those that a response still has. The response's code is the reference. A task without
    tests is left out with that reason.
    """

    domain: ClassVar[str | None] = "code"
    columns: ClassVar[tuple[str, ...]] = ("instruction", "response")
    licence: ClassVar[str] = "odc-by"
    seen_commit: ClassVar[str] = "356bb069eee815daa6e23e9a282eeefe1490ad44"

    path: HubSetName = "bigcode/self-oss-instruct-sc2-exec-filter-50k"

    def _prompt(self, row: Mapping[str, Any]) -> Prompt:
        instruction = text_of(row, "instruction")
        code, own = code_and_tests(str(row["response"] or ""))
        _, asked = code_and_tests(instruction)
        if not (asked or own):
            raise ValueError("no tests")
        return self._of(instruction, tests=asked or own, reference=code or None)
