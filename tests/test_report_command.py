"""The page of a saved posterior on the command line."""

import json

import numpy as np
import pytest

from tests.test_export import SOLVED
from tweedie_inverse.app.cli import main


def test_a_saved_posterior_gets_its_page(tmp_path, capsys):
    saved = tmp_path / "posterior.safetensors"
    SOLVED[0].save(saved)
    np.save(tmp_path / "truth.npy", SOLVED[0].mean.numpy())
    main(
        ["report", str(saved), "--truth", str(tmp_path / "truth.npy"), "--title", "a <b>", "--json"]
    )
    page = tmp_path / "posterior.html"
    assert json.loads(capsys.readouterr().out)["page"].endswith("posterior.html")
    assert "a &lt;b&gt;" in page.read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["none.safetensors"], "none.safetensors"),
        (["{saved}", "--out", "page.pdf"], "writes HTML"),
        (["{saved}", "--truth", "none.npy"], "none.npy"),
    ],
)
def test_what_is_not_there_is_said(more, message, tmp_path, capsys):
    saved = tmp_path / "posterior.safetensors"
    SOLVED[0].save(saved)
    with pytest.raises(SystemExit):
        main(["report", *(one.format(saved=saved) for one in more)])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "posterior.html").exists()
