"""LiveBench, release 2024-08-31: 1,000 questions in 18 tasks and 6 categories, no judge.

White et al., arXiv 2406.19314. A question's first turn is the whole prompt; the score is the mean
over categories of the mean over their tasks, as in the publisher's `show_livebench_result`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from fusechat.columns import read_rows
from fusechat.metrics.scoring import Items, group_means
from fusechat.parts import UnreadableRow
from fusechat.records import Prompt
from fusechat.tasks._benchmark import Benchmark, Profile, numbered
from fusechat.tasks._catalogue import DataFile, sha256_of
from fusechat.tasks._live_rows import CATEGORIES, LICENCE, RELEASE, prompts_of

_HUB = {
    "coding": "a958549fdd8aa57be0a3fafe7b205ffc160ed5f4",
    "data_analysis": "31b9661ff678df9958e2f7fa228427f4c858c1a1",
    "instruction_following": "0868379c4b5cf62aeacaf8be4f08fced815c81bb",
    "language": "3ada32a2e53d5e04e57fa503384cb85ce9116c40",
    "math": "bb66571c8ccf32d3df9e6f48b920d3770ff4aacb",
    "reasoning": "6fc6498a5dfba553f69f4413feabade1f1a2d384",
}
"""Category -> commit of the hub's set `livebench/<category>`, of 2025-04-07, which holds all
questions of the release."""
_SHA256 = {
    "cta": "792653b1686f8d10b1a06dd9a7e1c83613a64b46f063b059b79725a20133bef0",
    "tablejoin": "fc59a129d35c7e4d888c93021a440724a793dbf3ed41162c6b76e168ae0fe4ed",
    "tablereformat": "984b1a37f17e75c030ad2f7c4afcc8995f0b5667397f967269451ef35c15b457",
    "paraphrase": "324ea4834724e0f56233f07c56f5968472c0b76e378bcf2ffaeea0e0ca7aa134",
    "simplify": "f2b9b82cb98d833d33b04fa84430918894f079db8864a1a8627baf7f66b598d0",
    "story_generation": "86d3d6a437e733c915ceeddfd54280130c456253cdbdd83f644173b4835905d8",
    "summarize": "dab2583ce3c9ae08887e24ac4aa6e90c86e42b15526199f792404b14f2e926e7",
    "AMPS_Hard": "90757eab54bfbbce4b1b814e715fce912637094adf3169436327e3930d616ce7",
    "math_comp": "652fe0afd7c0c75458b7a08e2aac835076b513be4edd7bb18e2f39e5cc38b3c0",
    "olympiad": "2f28392a08a921a0e4b6cd12957d9f2e161fb9df3191b9ad9b04de8609171a65",
    "spatial": "dee517361a762c045de84ea11df8a080c91390238a897017489b29fcf1bb9113",
    "web_of_lies_v2": "f4f22a565bbd477cf64cf7b50a10bae479e41cd223360452ff13d36c95af50f3",
    "zebra_puzzle": "cd3a829ba2526c0af181a6072cce0aef3fa519b84d532d0bf92dbb48de3d7b9e",
}
_HOME = (
    "the hub's sets livebench/<category>, or question.jsonl files as "
    "github.com/LiveBench/LiveBench's download_questions.py writes them"
)


def _of_task(category: str, task: str) -> DataFile:
    """The file of one task's questions of any release."""
    folder = f"{category}/{task}"
    names = (
        f"livebench/{category}_{task}.jsonl", f"{category}_{task}.jsonl",
        f"live_bench/{folder}/question.jsonl", f"livebench/{folder}/question.jsonl",
    )  # fmt: skip
    known = {_SHA256[task]: "LiveBench/LiveBench, pull request 271"} if task in _SHA256 else {}
    return DataFile(folder, names, LICENCE, _HOME, sha256=known, optional=True)


def _of_category(category: str) -> DataFile:
    """The hub's file of all tasks of a category."""
    file = "data/test-00000-of-00001.parquet"
    return DataFile(
        category, (f"livebench/{category}/{file}", f"livebench_{category}.parquet"), LICENCE,
        f"the hub's set livebench/{category}", hub=(f"livebench/{category}", file),
        revision=_HUB[category], optional=True,
    )  # fmt: skip


class LiveBench(Benchmark):
    """LiveBench's release 2024-08-31, graded by rule against ground truth.

    Reads one file for each task, or the hub's one for each category; what is not there makes the
    row partial, and the score is that of the tasks that are. Greedy, at most 4,096 tokens.
    """

    title: ClassVar[str] = "LiveBench 0831"
    published: ClassVar[str | None] = "LiveBench 0831"
    data: ClassVar[tuple[DataFile, ...]] = (
        *(_of_task(category, task) for category, tasks in CATEGORIES.items() for task in tasks),
        *(_of_category(category) for category in CATEGORIES),
    )
    differs: ClassVar[str] = (
        f"release {RELEASE} is taken from later files by the dates in them; the paper's download "
        "may have held fewer questions"
    )

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """The questions of the release, category by category, in the order of the files."""
        return numbered(self._prompts())

    def _prompts(self) -> Iterator[Prompt | UnreadableRow]:
        there = self.found()
        for category, tasks in CATEGORIES.items():
            own = [task for task in tasks if f"{category}/{task}" in there]
            for task in own:
                path = there[f"{category}/{task}"]
                yield from prompts_of(read_rows(path), category, frozenset({task}))
            rest = frozenset(tasks) - frozenset(own)
            if rest and category in there:
                yield from prompts_of(read_rows(there[category]), category, rest)

    def absent(self) -> list[str]:
        """The tasks, as `category/task`, of which no file is there."""
        there = self.found()
        return [
            f"{category}/{task}"
            for category, tasks in CATEGORIES.items()
            for task in tasks
            if category not in there and f"{category}/{task}" not in there
        ]

    def missing(self) -> str | None:
        """Why the row must be skipped: no task's file is there."""
        if any(role in self.found() for role in (file.role for file in self.data)):
            return None
        looked = f"in {self.data_dir}" if self.data_dir else "anywhere: no --data-dir was given"
        return (
            f"no file of LiveBench's questions is {looked}. Get them: {_HOME} (licence: "
            f"{LICENCE}), and put them below the folder of --data-dir, such as "
            f"{self.data[0].names[0]}."
        )

    def lacks(self) -> list[str]:
        """Tasks that are not there."""
        absent = self.absent() if self.found() else []
        return [f"{len(absent)} of 18 tasks are not there: {', '.join(absent)}."] if absent else []

    def notes(self) -> list[str]:
        """Which tasks are missing, and which files are none of the known ones."""
        there, out = self.found(), []
        absent = self.absent()
        if absent:
            counts = {f"{c}/{t}": n for c, ts in CATEGORIES.items() for t, n in ts.items()}
            lost = sum(counts[name] for name in absent)
            out.append(
                f"{len(absent)} of 18 tasks ({lost} of 1,000 questions) are not there: "
                f"{', '.join(absent)}. The score is that of the others. Get them: {_HOME}."
            )
        for file in self.data:
            path = there.get(file.role)
            if path and file.sha256 and (sha := sha256_of(path)) not in file.sha256:
                out.append(f"{path.name} is not the known file ({file.role}): {sha}")
        return out

    def expected(self) -> int | None:
        """1,000."""
        return sum(sum(tasks.values()) for tasks in CATEGORIES.values())

    def decoding(self) -> dict[str, Any]:
        """Greedy, 4,096 tokens (FuseEval's run of LiveBench)."""
        return {"temperature": 0.0, "max_new_tokens": 4096}

    def graders(self) -> dict[Profile, dict[str, Any]]:
        """The grading of autumn 2024, cut answers too; and the same with its faults mended."""
        return {
            "paper": {"use": "live_bench", "rules": "published", "grade_cut": True},
            "robust": {"use": "live_bench"},
        }

    def score(self, items: Items) -> float:
        """100 x the mean over categories of the mean over tasks of the mean over questions."""
        means = list(_categories(items).values())
        return self.scale * math.fsum(means) / len(means)

    def extras(self, items: Items) -> dict[str, Any]:
        """`categories` and `tasks` -> score in [0, 100]."""
        return {
            "categories": {name: self.scale * v for name, v in _categories(items).items()},
            "tasks": {name: self.scale * v for name, v in group_means(items).items()},
        }


def _categories(items: Items) -> dict[str, float]:
    """Category -> mean of its tasks' means, of those with a value."""
    found: dict[str, list[float]] = {}
    for name, mean in group_means(items).items():
        found.setdefault(name.split("/")[0], []).append(mean)
    return {name: math.fsum(means) / len(means) for name, means in found.items()}
