"""The page of error messages quotes messages that the source has."""

import ast
import re
from functools import cache

import pytest

from tests.docs_pages import DOCS, ROOT

PAGE = (DOCS / "errors.md").read_text()
QUOTED = re.findall(r'^### "(.*)"$', PAGE, re.MULTILINE)


@cache
def literals() -> tuple[str, ...]:
    """All texts of the source, with "..." where a value is put in."""
    found = []
    for folder in ("tweedie_inverse", "operators"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            found += [
                text for node in ast.walk(ast.parse(path.read_text())) if (text := _text(node))
            ]
    return tuple(set(found))


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(value) or "..." for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (_text(node.left) or "...") + (_text(node.right) or "...")
    return ""


def is_in_the_source(quoted: str) -> bool:
    parts = [re.escape(part.strip()) for part in quoted.split("...")]
    wanted = re.compile(r".*?".join(parts), re.DOTALL)
    return any(wanted.search(text) for text in literals())


@pytest.mark.parametrize("quoted", QUOTED)
def test_quoted_messages_are_in_the_source(quoted):
    assert is_in_the_source(quoted)


def test_what_is_not_in_the_source_is_found():
    assert is_in_the_source("solve: the noise level is unknown")
    assert not is_in_the_source("the noise level is unheard of")
    assert not is_in_the_source("the noise level ... is unheard of")


def test_headings_are_quotations_and_lead_somewhere():
    headings = re.findall(r"^### (.*)$", PAGE, re.MULTILINE)
    assert len(headings) == len(set(headings)) >= 60
    assert [one for one in headings if not re.fullmatch(r'".+"', one)] == []
    for part in re.split(r"^### .*$", PAGE, flags=re.MULTILINE)[1:]:
        assert len(part.split("## ")[0].split()) >= 5
