"""The site builds without a warning, knows every public name, and asks no other server."""

import json
import re
import subprocess
import sys

import pytest

import tweedie_inverse as ti
from tests.docs_pages import DOCS, ROOT
from tweedie_inverse import operators as ops
from tweedie_inverse.priors import formats

PLACES = {
    "tweedie_inverse": ti,
    "tweedie_inverse.operators": ops,
    "tweedie_inverse.priors": ti.priors,
    "tweedie_inverse.priors.formats": formats,
    "tweedie_inverse.walks": ti.walks,
    "tweedie_inverse.io": ti.io,
    "tweedie_inverse.phase_space": ti.phase_space,
    "tweedie_inverse.numerics.schedules": ti.schedules,
    "tweedie_inverse.numerics.chains": ti.chains,
}


def build(source, out, *options):
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-q", *options, source, out]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_parser")
    pytest.importorskip("furo")
    out = tmp_path_factory.mktemp("site")
    done = build(DOCS, out, "-W", "--keep-going")
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
def test_every_public_name_is_in_the_reference(site):
    pages = "".join(path.read_text() for path in (site / "api").glob("*.html"))
    documented = set(re.findall(r'<dt class="sig[^"]*" id="([\w.]+)"', pages))
    missing = [
        f"{place}.{name}"
        for place, module in PLACES.items()
        for name in module.__all__
        if not re.match("<module", repr(getattr(module, name)))
        and f"{place}.{name}" not in documented
    ]
    # Two places of one function: it is documented in one.
    assert missing in ([], ["tweedie_inverse.priors.measure_denoising_error"])


@pytest.mark.slow
def test_pages_are_searched_and_ask_no_other_server(site):
    assert "Tomography" in (site / "searchindex.js").read_text()
    for page in site.rglob("*.html"):
        text = page.read_text()
        asked = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"', text)
        assert asked == [], page


@pytest.mark.slow
def test_formulas_and_names_are_links_and_mathml(site):
    page = (site / "mathematics" / "template.html").read_text()
    assert "<math" in page
    assert "\\frac" not in page
    assert re.search(r'<a [^>]*href="\.\./api/walks\.html#tweedie_inverse\.walks\.ddim"', page)


@pytest.mark.slow
def test_tutorials_are_notebooks(site):
    made = json.loads((site / "tutorials" / "benchmarking-your-method.ipynb").read_text())
    kinds = [cell["cell_type"] for cell in made["cells"]]
    assert kinds[0] == "markdown"
    assert kinds.count("code") == 2
    page = (site / "tutorials" / "benchmarking-your-method.html").read_text()
    assert 'href="benchmarking-your-method.ipynb"' in page


@pytest.mark.slow
def test_a_link_that_leads_nowhere_is_an_error(tmp_path):
    pytest.importorskip("myst_parser")
    source = tmp_path / "docs"
    source.mkdir()
    (source / "conf.py").write_text((DOCS / "conf.py").read_text())
    (source / "_static").mkdir()
    (source / "_static" / "site.css").write_text("")
    (source / "_ext").symlink_to(DOCS / "_ext")
    (source / "index.md").write_text("# Title\n\n[there](nowhere.md)\n")
    done = build(source, tmp_path / "out", "-W")
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr
