"""Groups of judged responses in a few words, and hypothesis strategies for any group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import strategies as st

from fusechat.parts import Group, Judged, Seen

GroupOf = Callable[..., Group]


def judged(value: Any) -> Judged:
    """A number is a score; a word is the status of a missing one."""
    if isinstance(value, str):
        return Judged(value, None, "some reason")  # type: ignore[arg-type]
    return Judged("ok", float(value))


def group_of(prompt_id: str = "p", **sources: list[Mapping[str, Any]]) -> Group:
    """`group_of(gemma=[dict(rm=0.2, ok=1), dict(rm=0.1, text="b", finish="length")])`."""
    responses = []
    for source, rows in sources.items():
        for index, row in enumerate(rows):
            scores = dict(row)
            finish = scores.pop("finish", "stop")
            text = scores.pop("text", f"{source}{index}")
            responses.append(
                Seen(
                    response_id=f"{source}-{index}",
                    source=source,
                    index=index,
                    finish=finish,
                    whole=finish in ("stop", "unknown") and bool(text),
                    text_digest=text,
                    tokens=None,
                    scores={name: judged(value) for name, value in scores.items()},
                )
            )
    return Group(prompt_id, "any", tuple(sources), tuple(responses))


@pytest.fixture
def make_group() -> GroupOf:
    return group_of


# Scores on a grid of 0.01, so that ties and the very ends of windows are common.
_rm = st.one_of(st.integers(0, 20).map(lambda n: n / 100), st.sampled_from(["unscorable", "error"]))
_ok = st.sampled_from([0, 1, 0.5, "unscorable", "error"])
_rows = st.lists(
    st.fixed_dictionaries(
        {
            "rm": _rm,
            "ok": _ok,
            "text": st.sampled_from(["a", "b", "c", "d", ""]),
            "finish": st.sampled_from(["stop", "stop", "stop", "unknown", "length"]),
        }
    ),
    max_size=6,
)


@pytest.fixture(scope="session")
def any_group() -> st.SearchStrategy[Group]:
    """Groups of up to three sources with up to six responses each."""
    return st.builds(
        lambda number, **sources: group_of(f"p{number}", **sources),
        number=st.integers(0, 50),
        gemma=_rows,
        mistral=_rows,
        qwen=_rows,
    )
