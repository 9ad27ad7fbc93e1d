"""Every Python block of every page runs as it stands there, in the order of the page."""

import importlib.util

import pytest

from tests.docs_pages import DOCS, codes_of, few_steps, is_slow, name_of, pages, run

QUICK = [page for page in pages() if not is_slow(page)]
NEEDS = {
    "add-an-operator": ["deepinv", "pylops"],
    "bring-your-network": ["deepinv", "diffusers"],
    "large-problems": ["h5py"],
    "reading-a-posterior": ["arviz", "h5netcdf", "xarray"],
    "your-data": ["nibabel"],
    "examples/head-ct": ["pydicom"],
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def skip_without_packages(page):
    missing = [n for n in NEEDS.get(name_of(page), []) if importlib.util.find_spec(n) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


@pytest.mark.parametrize("page", QUICK, ids=name_of)
@pytest.mark.filterwarnings("ignore::tweedie_inverse.PosteriorWarning")
def test_blocks_run_with_few_steps(page):
    skip_without_packages(page)
    with few_steps():
        run(page)


@pytest.mark.slow
@pytest.mark.parametrize("page", pages(), ids=name_of)
@pytest.mark.filterwarnings("error::tweedie_inverse.PosteriorWarning")
def test_blocks_run_as_they_are(page):
    skip_without_packages(page)
    run(page)


def test_what_is_not_run_is_little():
    left_out = [code.reason for page in pages() for code in codes_of(page) if code.reason]
    assert len(left_out) <= 6, left_out


def test_a_broken_block_is_found(tmp_path):
    page = tmp_path / "page.md"
    text = "<!-- run\na = 1\n-->\n\n```text\nno\n```\n\n```python\nassert a == 2, 'here'\n```\n"
    page.write_text(text)
    with pytest.raises(AssertionError, match="here") as error:
        run(page)
    assert error.traceback[-1].lineno + 1 == 10
    page.write_text(text.replace("```python", "<!-- not run: it fails -->\n```python"))
    run(page)
    assert [code.reason for code in codes_of(page)] == ["", "it fails"]


def test_pages_are_found():
    assert {"add-an-operator", "your-data"} <= {name_of(page) for page in pages()}
    assert not [page for page in pages() if "_build" in page.relative_to(DOCS).parts]
