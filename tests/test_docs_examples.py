"""Examples in the docstrings of public names run, and show what comes out."""

import doctest
import inspect

import pytest

import tweedie_inverse as ti
from tests.docs_pages import DOCS, codes_of
from tweedie_inverse import operators as ops

PLACES = {"ti": ti, "ops": ops, "ti.priors": ti.priors, "ti.walks": ti.walks, "ti.io": ti.io}
# What everybody calls: these have an example each.
FIRST = {
    "ops": {"Blur", "Downsampling", "FourierSampling", "GaussianNoise", "Mask", "PoissonNoise"},
    "ti": {"calibrate", "check_fit", "check_prior", "compare", "iterate", "likelihood"},
}
FIRST["ops"] |= {"Tomography", "parametric"}
FIRST["ti"] |= {"list_priors", "load_prior", "sample", "solve", "trajectory"}


def _with_examples() -> dict[str, str]:
    """Docstrings that have examples, by the name under which users know the object."""
    found = {}
    for place, module in PLACES.items():
        for name in module.__all__:
            text = inspect.getdoc(getattr(module, name)) or ""
            if ">>> " in text and not inspect.ismodule(getattr(module, name)):
                found[f"{place}.{name}"] = text
    return found


EXAMPLES = _with_examples()


@pytest.fixture(scope="module")
def first_lines():
    """What the reference says all examples begin with."""
    (begin,) = codes_of(DOCS / "api" / "index.md")
    known: dict = {}
    exec(compile(begin.text, "index.md", "exec"), known)
    return known


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(name, first_lines, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    test = doctest.DocTestParser().get_doctest(EXAMPLES[name], dict(first_lines), name, None, None)
    said: list[str] = []
    failed, tried = doctest.DocTestRunner().run(test, out=said.append)
    assert tried > 0
    assert failed == 0, "".join(said)


def test_what_everybody_calls_has_an_example():
    assert {f"{place}.{name}" for place in FIRST for name in FIRST[place]} <= set(EXAMPLES)
