"""No promise without a test, no mark without a promise."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.promises import PROMISES, promise

TESTS = Path(__file__).parent


def marks() -> Iterator[str]:
    """Every id in a mark; read, not imported, so that no selection hides any."""
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "promise":
                yield from (id.value for id in node.args if isinstance(id, ast.Constant) and isinstance(id.value, str))


def test_every_promise_has_a_test() -> None:
    assert set(PROMISES) - set(marks()) == set()


def test_every_mark_is_of_a_promise() -> None:
    assert set(marks()) - set(PROMISES) == set()
    unknown = "nobody:promised"
    with pytest.raises(LookupError, match=unknown):
        promise(*[unknown])


def test_every_promise_is_a_sentence_with_a_source() -> None:
    for id, (source, sentence) in PROMISES.items():
        assert id == id.lower() and ":" in id and source and sentence.endswith("."), id
    sentences = [sentence for _, sentence in PROMISES.values()]
    assert len(set(sentences)) == len(sentences)
