"""docs/command-line.md and the examples of every help: commands that the parser accepts."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from tweedie_inverse.app import equipment, problem_file
from tweedie_inverse.app.catalogue import asked
from tweedie_inverse.app.catalogue.instruments import INSTRUMENTS
from tweedie_inverse.app.catalogue.noises import NOISES
from tweedie_inverse.app.cli import _parser

PAGE = Path(__file__).parents[1] / "docs" / "command-line.md"


def commands_in(text):
    """Lines that are commands, those that go on in the next one joined, without what follows."""
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = [line.strip() for line in joined.splitlines() if line.startswith((" ", "\t"))]
    return [re.split(r" [|>] |  +\(", line)[0] for line in lines if line.startswith("tweedie-inv")]


def helps():
    commands = next(a for a in _parser()._actions if a.dest == "command").choices
    return "\n".join(one.epilog or "" for one in (_parser(), *commands.values()))


@pytest.mark.parametrize("text", [PAGE.read_text(), helps()], ids=["page", "help"])
def test_commands_that_are_shown_are_accepted(text, monkeypatch):
    monkeypatch.setattr(asked, "read", lambda option, text: text)  # files are not there
    shown = commands_in(text)
    assert len(shown) > 10
    for line in shown:
        options = _parser().parse_args(shlex.split(line)[1:])
        operator = getattr(options, "operator", None)
        if operator is not None and equipment.is_by_name(operator):
            equipment.check(options, options.command) if options.prior else None
            asked.asked_for(operator, equipment.operator_texts(options), None)


def test_the_page_names_all_instruments_noises_and_commands():
    text = PAGE.read_text()
    commands = next(a for a in _parser()._actions if a.dest == "command").choices
    for name in (*INSTRUMENTS, *NOISES, *commands):
        assert f"`{name}" in text, name


def test_the_problem_file_that_is_shown_is_one(tmp_path):
    (shown,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "problem.toml").write_text(shown)
    assert problem_file.read(tmp_path / "problem.toml") == tomllib.loads(shown)
