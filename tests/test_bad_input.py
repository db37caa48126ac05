# ruff: noqa: E501 - messages are shown whole
"""Bad input, from the command line: a clear message with place and mend, nothing lost,
nothing silently counted as wrong. Here: recipes, data, parts; models are in
`test_bad_models.py`, workspaces and broken runs in `test_bad_workspaces.py`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from bad_lab import ECHO, FILES, GOOD, LENGTH, SLOW, TASK, Lab
from fusechat.tables import read_dicts


@pytest.fixture
def lab(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Lab:
    return Lab(tmp_path, capsys)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param("sources:", "souces:", "r.yaml:4  souces  there is no key 'souces' here. Did you mean 'sources'?", id="misspelt section"),
        pytest.param("samples: 2", "sampels: 2", "r.yaml:5  sources.parrot.sampels  there is no key 'sampels' here. Did you mean 'samples'?", id="misspelt key of an entry"),
        pytest.param("name: small", "name: small\nbase: 3", "r.yaml:2  base  there is no key 'base' here. There are: name, seed,", id="unknown key"),
        pytest.param("name: small", "name: small\nvariables: {x: 1}", "r.yaml:2  variables.x  nothing uses ${x}. Remove it, or use it in a value.", id="unused variable"),
        pytest.param("name: small", "name: small\nvariables: [x]", "r.yaml:2  variables  variables are names with values", id="variables that are a list"),
        pytest.param("min_margin: 0.0", "min_margin: 2", "r.yaml:12  build.chat.dpo.min_margin  2.0 is above max_margin (1.0), so no pair can pass.", id="margin that no pair can pass"),
        pytest.param("path: prompts", "path: promts", "r.yaml:3  prompts.hello.path  there is nothing at promts.jsonl. Give a path relative to the recipe.", id="missing file"),
        pytest.param("path: prompts.jsonl", "path: .", "prompts.hello.path  ", id="folder for a file"),
        pytest.param("domain: chat}", "domain: chat, columns: {prompt: promt}}", "r.yaml:3  prompts.hello.columns.prompt  prompts.jsonl has no column 'promt'. Did you mean 'prompt'?", id="missing column"),
        pytest.param(ECHO, "{use: given, path: prompts.jsonl}", "r.yaml:5  sources.parrot.responses  prompts.jsonl has no column 'response'. It has: prompt.", id="missing column of stored responses"),
        pytest.param("parrot:", "a/b:", "r.yaml:5  sources.a/b  'a/b' cannot be a name. A name is letters, digits, '_', '-' and '.', at most 60, with a letter or digit first.", id="slash in a source's name"),
        pytest.param("parrot:", "my parrot:", "r.yaml:5  sources.my parrot  'my parrot' cannot be a name.", id="space in a source's name"),
        pytest.param("parrot:", "..:", "'..' cannot be a name.", id="source called after the folder above"),
        pytest.param("parrot:", "3:", "r.yaml:5  sources.3  a name must be a text, and YAML reads 3 here. Put it in quotes.", id="number for a name"),
        pytest.param("parrot:", "p" * 61 + ":", "is too long. A name is", id="name too long for a folder"),
        pytest.param("parrot:", "target:", "r.yaml:5  sources.target  'target' names a model of this recipe's own. Give the source another name.", id="source called target"),
        pytest.param(LENGTH, "  len@x: {use: length}", "annotators.len@x  'len@x' cannot be a name.", id="annotator with an at sign"),
        pytest.param(LENGTH, "  length: {}\n  other: {use: length, domains: []}", "r.yaml:8  annotators.other.domains  this is empty. Name at least one, or remove the key.", id="annotator without a domain to judge"),
        pytest.param(LENGTH, "  length: {}\n  other: {use: length, domains: [maths]}", "r.yaml:8  annotators.other.domains  no prompts have the domain 'maths'. There are: chat.", id="annotator of a domain that nobody has"),
        pytest.param("use: echo", "use: 3", "r.yaml:5  sources.parrot.use  'use' names a part, and 3 is no text. Give its name.", id="number for a part"),
        pytest.param("use: echo", "use: 'no_such_module:X'", "'no_such_module:X' cannot be imported: No module named 'no_such_module'.", id="part that cannot be imported"),
        pytest.param("use: echo", "use: 'bad_parts:FaultsRaise'", "r.yaml:5  sources.parrot  the part 'bad_parts:FaultsRaise' failed in faults(): RuntimeError: no such luck. Mend the part.", id="part that raises in faults"),
        pytest.param("samples: 2", "samples: two", "r.yaml:5  sources.parrot.samples  this must be a whole number; it is 'two'.", id="word for a number"),
        pytest.param("annotators:\n  length: {}", "annotators:", "r.yaml:6  annotators  this is empty. Give a mapping of names", id="empty section"),
        pytest.param("    dpo:", "    dop:", "build.chat.dop  there is no key 'dop' here. Did you mean 'dpo'?", id="misspelt table of build"),
        pytest.param("name: small", "name: small\n" + TASK.strip(), "r.yaml:2  evaluate  no model can be evaluated. Add a target, a training stage or an 'hf' source.", id="nothing to evaluate"),
        pytest.param("name: small", f"name: small\n{TASK.strip().replace('NoPrompts', 'NoPrompts_')}", "evaluate.tasks.0.use  'bad_parts:NoPrompts_' cannot be imported", id="unknown task"),
        pytest.param("prompts:\n", "prompts:\n\tmore: {}\n", "r.yaml:3  not YAML: found character '\\t' that cannot start any token. YAML indents with spaces: replace the tab by two of them.", id="tabs"),
        pytest.param("name: small", "name: \0small", "r.yaml:1  not YAML: unacceptable character", id="binary in the text"),
        pytest.param("name: small", "name: !!python/object:os.system small", "r.yaml:1  not YAML: could not determine a constructor", id="code in the recipe"),
        pytest.param(ECHO, "&a {use: *a}", "not YAML: an alias stands inside what it names.", id="alias of itself"),
        pytest.param("parrot:", "[a, b]:", "r.yaml:5  not YAML: a key must be a word, and is a list or mapping.", id="list for a key"),
    ],
)  # fmt: skip
def test_a_bad_recipe_is_refused_with_place_and_mend(
    lab: Lab, old: str, new: str, message: str
) -> None:
    lab.change((old, new))
    assert message in lab.refused()


def test_all_faults_come_at_once_those_of_files_too(lab: Lab) -> None:
    lab.change(
        ("name: small", "nam: small"), ("use: echo", "use: ecko"), ("path: prompts", "path: promts")
    )
    out = lab.refused()
    assert "4 faults; nothing was run." in out
    for message in (
        "name  this key is needed",
        "there is no key 'nam'",
        "there is nothing at promts.jsonl",
        "Did you mean 'echo'?",
    ):
        assert message in out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "r.yaml  cannot be read: Is a directory. Give the path of a recipe."),
        (b"", "r.yaml:1  a recipe is a mapping of keys, such as 'name: my-fusion'."),
        (bytes(range(256)), "r.yaml  is not UTF-8 text:"),
        (b"- a\n- b\n", "r.yaml:1  a recipe is a mapping of keys"),
    ],
)  # fmt: skip
def test_a_recipe_that_is_a_folder_empty_binary_or_a_list_is_refused(
    lab: Lab, content: bytes | None, message: str
) -> None:
    lab.recipe.unlink()
    lab.recipe.mkdir() if content is None else lab.recipe.write_bytes(content)
    assert message in lab.refused()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.txt", b"say one\n", "p.txt: files end in .jsonl, .json or .parquet"),
        ("p.jsonl", b"", 'p.jsonl has no rows: each is a JSON object, such as {"prompt": "..."}.'),
        ("p.jsonl", b'{"text": "say one"}\n', "p.jsonl has none of the columns messages, conversations, prompt, question, problem, instruction. It has: text. Say which holds the prompt: 'columns: {prompt: ...}'."),
        ("p.json", b"{", "p.json is not JSON"),
        ("p.json", b"{}", "p.json must hold a list of rows; it holds a dict."),
        ("p.parquet", b"no such thing", "p.parquet cannot be read: Parquet magic bytes not found"),
        ("p.jsonl.gz", b"no such thing", "p.jsonl.gz cannot be read: Not a gzipped file"),
    ],
)  # fmt: skip
def test_a_prompt_file_that_cannot_be_read_is_a_fault_of_the_recipe(
    lab: Lab, name: str, content: bytes, message: str
) -> None:
    (lab.folder / name).write_bytes(content)
    lab.change(("prompts.jsonl", name))
    out = lab.refused()
    assert "r.yaml:3  prompts.hello.path  " in out
    assert message in out


def test_set_reaches_list_items_and_dotted_domains_and_says_which_there_are(lab: Lab) -> None:
    lab.recipe.write_text(GOOD.replace("chat", "chat.en") + TASK)
    check = ("check", lab.recipe, "--workspace", lab.folder / "ws")
    out = lab.command(*check, "--set", "evaluate.tasks.0.take=0", code=2)
    assert "--set  evaluate.tasks.0.take  Input should be greater than or equal to 1" in out
    out = lab.command(*check, "--set", "evaluate.tasks.7.take=2", code=2)
    assert "--set  evaluate.tasks.7.take  '7' is no place in this list. Give 0 to 0." in out
    out = lab.command(*check, "--set", "build.chat.en.sft.by=lenght", code=2)
    assert (
        "--set  build.chat.en.sft.by  there is no annotator 'lenght'. Did you mean 'length'?" in out
    )
    out = lab.command(*check, "--set", "name.x=1", code=2)
    assert "--set  name  this must be a text in quotes" in out


def test_dots_in_domains_unicode_names_and_spaces_in_paths_are_good(lab: Lab) -> None:
    lab.recipe.write_text(GOOD.replace("chat", "chat.en").replace("parrot", "papagaio_ção.漢"))
    lab.run(workspace="my work spáce")
    folder = lab.folder / "my work spáce"
    rows = list(read_dicts(next(folder.glob("sample/papagaio_ção.漢-*")) / "data"))
    assert {row["source"] for row in rows} == {"papagaio_ção.漢"}
    out = lab.command("show", "sample/papagaio_ção.漢", "--workspace", folder)
    assert "6 of 6 rows" in out
    lab.recipe.write_text(GOOD.replace("chat", "chat.en").replace("by: length}", "by: lenght}"))
    assert "r.yaml:11  build.chat.en.sft.by  there is no annotator" in lab.refused()


def test_a_source_called_prompts_is_judged_as_any_other(lab: Lab) -> None:
    lab.change(("parrot", "prompts"))
    lab.run()
    assert lab.counts("annotate/length-*")["status"] == {"ok": 6}


def test_a_misspelt_unit_is_refused_with_the_nearest_one(lab: Lab, tmp_path: Path) -> None:
    for flag in ("--only", "--refresh"):
        out = lab.run(flag, "biuld", code=1)
        assert "there is no unit 'biuld' in this plan. Did you mean 'build'?" in out
    (tmp_path / "c.yaml").write_text("units: {sampel: {processes: 1}}\n")
    out = lab.refused("--cluster", tmp_path / "c.yaml")
    assert "c.yaml:1  units.sampel  the plan has no unit 'sampel'. Did you mean 'sample'?" in out


def test_no_prompt_left_stops_with_the_reasons_and_keeps_every_row(lab: Lab) -> None:
    rows = '{"prompt": ""}\n{oops\n{"q": 1}\n'
    (lab.folder / "prompts.jsonl").write_text(rows)
    out = lab.run(code=1)
    assert (
        "prompts: no prompt is left of 3 rows read: 1 x empty prompt; 1 x not JSON; 1 x no prompt in the row."
        in out
    )
    out = lab.command("show", "prompts", "--dropped", "--workspace", lab.folder / "ws")
    assert "prompts.jsonl:2" in out
    assert "3 of 3 rows" in out


def test_a_set_with_nothing_but_duplicates_is_told_and_each_is_kept_with_its_reason(
    lab: Lab,
) -> None:
    lab.change((f"  hello: {FILES}", f"  hello: {FILES}\n  again: {FILES}"))
    assert "prompts: again: 3 of 3 rows dropped: 3 x same prompt as in hello" in lab.run()
    assert lab.counts("prompts-*")["sets"]["again"] == {
        "read": 3, "kept": 0, "dropped": {"same prompt as in hello": 3}
    }  # fmt: skip


def test_stored_responses_to_other_prompts_stop_the_source(lab: Lab) -> None:
    lab.write("given.jsonl", [{"prompt": "another", "response": "x"}])
    lab.change((ECHO, "{use: given, path: given.jsonl}"))
    out = lab.run(code=1)
    assert (
        "sample/parrot: the source has no response to any of 3 prompts. Its own prompts must be the very same messages"
        in out
    )


def test_a_benchmark_without_prompts_stops_with_its_name(lab: Lab) -> None:
    lab.recipe.write_text(GOOD + "train: {sft: {}}\ntarget: {model: m}\n" + TASK)
    (lab.folder / "m").mkdir()
    for name in ("tokenizer.json", "model.safetensors", "chat_template.jinja"):
        (lab.folder / "m" / name).write_text("")
    (lab.folder / "m" / "config.json").write_text("{}")
    out = lab.run("--only", "evaluate/NoPrompts/prompts", code=1)
    assert "evaluate/NoPrompts/prompts: no prompt is left of 0 rows read: the set is empty." in out


@pytest.mark.parametrize(("finish_", "text"), [("length", "a text that was cu"), ("stop", " \n")])
def test_cut_or_empty_responses_are_never_judged_wrong_nor_trained_on(
    lab: Lab, finish_: str, text: str
) -> None:
    lab.write("prompts.jsonl", [{"prompt": "What is 1 + 1?", "answer": "2"}])
    part = (
        f"{{use: 'bad_parts:Unfinished', finish: {finish_}, text: {json.dumps(text)}, samples: 2}}"
    )
    lab.change((ECHO, part), (LENGTH, "  length: {use: math_answer}"))
    assert "dropped: 1 no whole response" in lab.run()
    assert lab.counts("sample/parrot-*")["finish"] == {finish_: 2}
    assert lab.counts("annotate/length-*")["status"] == {"unscorable": 2}


def test_gold_answers_and_tests_that_are_no_good_are_unscorable_and_never_wrong(lab: Lab) -> None:
    """Real math-verify and the real sandbox: what cannot be judged is counted with its reason."""
    lab.write(
        "math.jsonl",
        [{"prompt": "a", "answer": "???"}, {"prompt": "b"}, {"prompt": "c", "answer": "2"}],
    )
    fails, passes = "assert f(1) == 2", "assert True"
    lab.write("code.jsonl", [
        {"prompt": "d", "tests": fails, "ref": "def f(x): return 0"}, {"prompt": "e", "tests": passes, "ref": ""},
        {"prompt": "f", "tests": "assert (", "ref": ""}, {"prompt": "g", "tests": fails, "ref": "def f(x): return 2"},
    ])  # fmt: skip
    lab.write(
        "given.jsonl",
        [{"prompt": p, "response": "\\boxed{2}"} for p in "abc"]
        + [{"prompt": p, "response": "```python\ndef f(x): return x + 1\n```"} for p in "defg"],
    )
    lab.recipe.write_text(
        "name: judged\nprompts:\n  math: {use: files, path: math.jsonl, domain: math}\n"
        "  code: {use: files, path: code.jsonl, domain: code, columns: {tests: tests, reference: ref}}\n"
        "sources:\n  stored: {use: given, path: given.jsonl}\nannotators:\n"
        "  math: {use: math_answer, domains: [math]}\n  code: {use: code_tests, domains: [code], allow_weak_sandbox: true}\n"
    )
    lab.run()
    math, code = lab.counts("annotate/math-*"), lab.counts("annotate/code-*")
    assert math["status"] == {"unscorable": 2, "ok": 1}
    assert math["reasons"]["unscorable"] == {"gold answer cannot be parsed": 1, "no gold answer": 1}
    assert code["status"] == {"unscorable": 3, "ok": 1}
    assert code["reasons"]["unscorable"] == {
        "tests fail on their own reference solution": 1, "tests pass without any code": 1, "tests do not compile": 1,
    }  # fmt: skip
    values = [row["value"] for row in read_dicts(lab.unit("annotate/code-*") / "data")]
    assert values == [None, None, None, 1.0]


def test_a_score_that_is_no_number_is_an_error_and_loses_no_other(lab: Lab) -> None:
    source = SLOW.format(tally=lab.folder / "tally", seconds=0)
    lab.change(
        (ECHO, source.replace("samples: 4", "samples: 2")),
        (LENGTH, "  length: {use: 'bad_parts:NotANumber'}"),
    )
    out = lab.run(code=1)
    assert "annotate/length: 3 of 6 rows failed (50.0%, max_error_share is 1.0%)" in out
    assert "3 x the score is not a finite number" in out
    assert "run again with --retry-errors, or raise max_error_share in the recipe." in out
    rows = list(read_dicts(lab.unit("annotate/length-*") / "data"))
    assert Counter((row["status"], row["value"]) for row in rows) == {
        ("ok", 1.0): 3,
        ("error", None): 3,
    }


def test_a_part_that_answers_with_nothing_leaves_failed_rows_with_that_reason(lab: Lab) -> None:
    lab.change(("use: echo", "use: 'bad_parts:NoRow'"))
    out = lab.run(code=1)
    assert "6 x the part gave a NoneType where an answer is due" in out
