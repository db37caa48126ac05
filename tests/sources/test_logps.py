"""What sources say of how likely a text is, against transformers itself and by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny_models import FAMILIES, tiny_model

from fusechat import chat
from fusechat.parts import RowPart, Where, load_part
from fusechat.records import LogpRequest, Prompt, Response, SourceLogp
from fusechat.sources._hf_logps import HfLogps
from fusechat.sources._kept_logps import KeptLogps
from fusechat.sources.given import Given
from fusechat.sources.hf import Hf

TEXTS = (
    "7 are left.", "Tom has 12 apples and gives 5 to Ann, so 7 are left.", "no", "<|im_end|>",
)  # fmt: skip


def asked(text: str, prompt: str = "How many apples are left?", **fields: Any) -> LogpRequest:
    made_from = f"{prompt}|{text}"
    return LogpRequest(
        prompt=Prompt.of(prompt, domain="math"), response_id=text, text=text, source="one",
        made_from=made_from, **fields,
    )  # fmt: skip


def answers(part: RowPart, rows: list[LogpRequest]) -> dict[str, SourceLogp]:
    with part.open(Where(device="cpu")) as work:
        return {row.made_from: row for row in work(iter(rows))}


def directly(folder: Path, request: LogpRequest) -> tuple[float, int]:
    """By transformers alone: one text, its logits, the log-probability of each response token."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found = chat.encode_chat(tokenizer, request.prompt.chat(), request.text)
    ids = torch.tensor([found.ids])
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
    of_each = logits.gather(1, ids[0, 1:, None])[:, 0].double()
    return float(of_each[found.response_start - 1 :].sum()), len(found.ids) - found.response_start


@pytest.mark.parametrize("family", FAMILIES)
def test_hf_says_what_transformers_says_of_one_text_alone(family: Any, tmp_path: Path) -> None:
    window = {"sliding_window": 16} if family in ("gemma2", "mistral") else {}
    folder = tiny_model(tmp_path / family, family, **window)
    rows = [asked(text) for text in TEXTS]
    found = answers(HfLogps(model=str(folder), dtype="float32"), rows)
    for row in rows:
        logp, tokens = directly(folder, row)
        assert found[row.made_from].logp == pytest.approx(logp, abs=1e-4)
        assert found[row.made_from].tokens == tokens


def test_batches_of_any_size_give_the_same_numbers(tmp_path: Path) -> None:
    folder = str(tiny_model(tmp_path / "m"))
    rows = [asked(text, prompt) for text in TEXTS for prompt in ("one", "one two three " * 8)]
    one, many = (
        answers(HfLogps(model=folder, dtype="float32", batch_tokens=size), rows)
        for size in (1, 8192)
    )
    assert one.keys() == many.keys() == {row.made_from for row in rows}
    for name, row in one.items():
        assert row.logp == pytest.approx(many[name].logp, abs=1e-4)


def test_the_size_of_batches_is_in_no_key_and_the_sampling_settings_are_not_either(
    tmp_path: Path,
) -> None:
    folder = str(tiny_model(tmp_path / "m"))
    hot = Hf(model=folder, temperature=1.3, dtype="float32").logps()
    assert hot.digest() == Hf(model=folder, top_p=0.5, dtype="float32").logps().digest()
    assert hot.digest() == HfLogps(model=folder, dtype="float32", batch_tokens=64).digest()
    other = str(tiny_model(tmp_path / "other", seed=1))
    assert hot.digest() != HfLogps(model=other, dtype="float32").digest()


def test_a_text_beyond_the_context_is_not_said_and_not_a_number(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "small", max_position_embeddings=64)
    long, short = asked("word " * 200), asked("no")
    found = answers(HfLogps(model=str(folder), dtype="float32"), [long, short])
    assert found[short.made_from].status == "ok"
    assert found[long.made_from].status == "unscorable"
    assert found[long.made_from].logp is None
    assert found[long.made_from].reason == "longer than the context of small (64 tokens)"


def test_a_conversation_that_a_template_refuses_is_not_said(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "gemma", "gemma2")
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    row = asked("no").model_copy(update={"prompt": Prompt.of(turns, domain="chat")})
    found = answers(HfLogps(model=str(folder), dtype="float32"), [row])
    assert found[row.made_from].status == "unscorable"
    assert "the chat template of gemma refuses" in found[row.made_from].reason


def test_a_cut_depends_on_the_rows_alone() -> None:
    part = HfLogps.model_construct(model="m", dtype="float32", batch_tokens=16)
    rows = [asked("a word " * n) for n in (30, 1, 12, 4, 50, 2)]
    whole = part.cut(rows)
    assert whole == part.cut(rows[::-1])
    assert sorted(row.made_from for batch in whole for row in batch) == sorted(
        row.made_from for row in rows
    )
    assert len(whole) > 1


# --- What was kept when a source was sampled


def kept(**fields: Any) -> Response:
    return Response(
        id="r", prompt_id="p", source="one", index=0, text="no", finish="stop", model="m",
        made_from="f", **fields,
    )  # fmt: skip


def only(request: LogpRequest) -> SourceLogp:
    (found,) = answers(KeptLogps(), [request]).values()
    return found


def test_what_was_kept_with_its_own_response_is_said() -> None:
    found = only(asked("no", own=kept(logprob=-3.5, tokens=4)))
    assert (found.status, found.logp, found.tokens) == ("ok", -3.5, 4)


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (None, "another source's response, and this one keeps only its own"),
        (kept(tokens=4), "no log-probability was kept with its response"),
        (kept(logprob=-3.5), "no number of tokens was kept with its response"),
        (kept(logprob=-9.0, tokens=9, reasoning="h"), "its log-probability includes its reasoning"),
    ],
)  # fmt: skip
def test_what_was_not_kept_is_not_said_and_says_why(own: Response | None, reason: str) -> None:
    found = only(asked("no", own=own))
    assert (found.status, found.logp, found.tokens) == ("unscorable", None, None)
    assert found.reason == reason


def test_a_broken_number_is_an_error_and_no_log_probability() -> None:
    assert asked("no").logp(math.nan, 3).status == "error"
    with pytest.raises(ValueError, match="iff status is 'ok'"):
        SourceLogp(response_id="r", source="s", status="ok", logp=None, tokens=3, made_from="f")
    with pytest.raises(ValueError, match="must say why"):
        SourceLogp(response_id="r", source="s", status="unscorable", made_from="f")


@pytest.mark.parametrize(
    ("settings", "mend"),
    [
        ({"use": "endpoint", "model": "m"}, "logprobs: true"),
        ({"use": "echo"}, "Use hf"),
        ({"use": "given", "path": "pool.jsonl"}, "'logprob' and 'tokens'"),
    ],
)
def test_a_source_that_cannot_say_tells_what_to_do(settings: dict[str, Any], mend: str) -> None:
    said = load_part("sources", settings).logps()  # type: ignore[attr-defined]
    assert isinstance(said, str)
    assert mend in said


def test_an_endpoint_that_keeps_log_probabilities_says_those() -> None:
    part = load_part("sources", {"use": "endpoint", "model": "m", "logprobs": True})
    assert part.logps() == KeptLogps()  # type: ignore[attr-defined]


# --- Columns of stored pools


def stored(folder: Path, line: str, **settings: Any) -> tuple[Given, list[Response]]:
    path = folder / "pool.jsonl"
    path.write_text(line + "\n")
    part = Given(path=str(path), responses="answers", logprob="nats", tokens="size", **settings)
    prompt = Prompt.of("Hi", domain="chat")
    from fusechat.records import Request

    requests = [
        Request(prompt=prompt, source="s", index=n, seed=0, model="m", made_from=str(n))
        for n in range(part.available(prompt, None))
    ]
    with part.open(Where()) as work:
        return part, list(work(iter(requests)))


def test_stored_log_probabilities_come_with_each_response(tmp_path: Path) -> None:
    part, rows = stored(
        tmp_path, '{"prompt": "Hi", "answers": ["a", "b"], "nats": [-2.5, null], "size": [3, 4]}'
    )
    assert [(row.text, row.logprob, row.tokens) for row in rows] == [("a", -2.5, 3), ("b", None, 4)]
    assert part.logps() == KeptLogps()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('"answers": ["a", "b"], "nats": [-2.5], "size": [3, 4]',
         "1 values of the log-probability, and 2 responses"),
        ('"answers": ["a"], "nats": [0.5], "size": [3]', "no log-probability: 0.5"),
        ('"answers": ["a"], "nats": [-1.0], "size": [0]', "no number of tokens: 0"),
        ('"answers": ["a"], "nats": ["x"], "size": [2]', "no log-probability: 'x'"),
    ],
)  # fmt: skip
def test_stored_numbers_that_cannot_be_make_the_row_unreadable(
    line: str, reason: str, tmp_path: Path
) -> None:
    part, rows = stored(tmp_path, f'{{"prompt": "Hi", {line}}}')
    assert rows == []
    assert [row.reason for row in part.unread()] == [reason]


def test_a_pool_without_those_columns_keeps_its_key(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    path.write_text('{"prompt": "Hi", "response": "a"}\n')
    assert set(Given(path=str(path)).key()["settings"]) == {"path"}
