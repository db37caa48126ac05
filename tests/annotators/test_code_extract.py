"""Which text of a response is its code."""

from __future__ import annotations

import pytest

from fusechat.annotators._code_extract import find_code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\na\n```\n```python\nb\n```", "b"),
        ("```python\na\n```\n```\nmuch longer text\n```", "a"),
        ("```\nshort\n```\n```text\nthe longer one\n```", "the longer one"),
        ("```PY\na\n```", "a"),
        ("~~~python\na\n~~~", "a"),
        ("````python\n```\na\n````", "```\na"),
        ("1. First\n   ```python\n   if a:\n       b\n   ```", "if a:\n    b"),
        ("```python\nnever closed", "never closed"),
        ("use `x` and ```y``` here", "use `x` and ```y``` here"),
        ('```python title="a.py"\na\n```', "a"),
    ],
)
def test_the_code_is_the_last_block_of_the_language_else_the_longest_else_the_text(
    text: str, code: str
) -> None:
    assert find_code(text).code == code


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("```java\nclass A {}\n```", "java"),
        ("```C++\nint main() {}\n```", "c++"),
        ("```js\nf = x => x\n```\nIt prints\n```\n[1]\n```", "javascript"),
        ("```\n#include <vector>\nint main() {}\n```", "c++"),
        ("```\npublic class Main {\n}\n```", "java"),
        ("function add(a, b) {\n  return a + b;\n}", "javascript"),
        ("```bash\nls | wc -l\n```", "shell"),
        ("```go\npackage main\n```\nor\n```python\nx = 1\n```", ""),
        ("```bash\npip install numpy and more and more\n```\n```\nx = 1\n```", ""),
        ("```\ndef f(:\n```", ""),
        ("I would write a function add(a, b) { in C.", ""),
    ],
)
def test_code_in_another_language_is_known_by_its_label_else_by_its_shape(
    text: str, language: str
) -> None:
    assert find_code(text).other == language
