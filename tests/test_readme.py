"""The README is short, its code runs as pasted, and its commands are commands."""

import shlex

import pytest

from tests.docs_pages import ROOT, codes_of, few_steps, run
from tweedie_inverse.app.cli import _parser

README = ROOT / "README.md"


def test_it_is_short():
    assert len(README.read_text().split()) <= 900


@pytest.mark.filterwarnings("ignore::tweedie_inverse.PosteriorWarning")
def test_its_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(codes_of(README)) == 2
    with few_steps():
        run(README)
    assert (tmp_path / "posterior.html").exists()
    assert (tmp_path / "posterior.safetensors").exists()


def test_its_commands_are_commands():
    lines = README.read_text().replace("\\\n", " ").splitlines()
    shown = [line for line in lines if line.startswith("tweedie-inverse ")]
    assert len(shown) == 3
    for line in shown:
        _parser().parse_args(shlex.split(line)[1:])
