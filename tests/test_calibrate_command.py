"""`tweedie-inverse calibrate`: its exit code is the verdict, and processes share the truths."""

import numpy as np
import pytest
import torch

from tests.test_calibrate import SHAPE, WHITE
from tweedie_inverse.app.check_command import FAILED
from tweedie_inverse.app.cli import main

FILE = """
import torch
from tweedie_inverse import operators as ops
operator = ops.Mask(torch.ones(1, 4, 4), noise=ops.GaussianNoise(0.5))
def sampler(y, count, seed):
    noise = torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed % 2**31))
    return y / 1.25 + 0.2**0.5 * noise
def narrow(y, count, seed):
    return y / 1.25 + 0.5 * (sampler(y, count, seed) - y / 1.25)
statistics = {"corner": lambda x: x[:, 0, 0, 0]}
"""


@pytest.fixture
def command(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    # The picture is drawn in tests/test_calibrate.py, and takes a second.
    monkeypatch.setattr("tweedie_inverse.evaluation.calibrate.page._picture", lambda result: "")
    monkeypatch.setattr("tweedie_inverse.priors.zoo.load_prior", lambda name, **settings: WHITE)

    def run(*more):
        start = ["calibrate", "any", *more, "--operator", "mine.py:operator"]
        main([*start, "--count", "24", "--samples", "7", "--no-power", "--level", "0.001"])

    return run


def test_processes_share_the_truths_and_the_last_one_judges(command, tmp_path, capsys):
    mine = ("--sampler", "mine.py:sampler", "--statistics", "mine.py:statistics")
    command(*mine, "--world-size", "2", "--rank", "0")
    assert "12 truths are left to other processes" in capsys.readouterr().out
    assert not (tmp_path / "calibration" / "report.html").exists()
    command(*mine, "--world-size", "2", "--rank", "1", "--report", "page.html")
    said = capsys.readouterr().out
    assert "calibration: passed" in said
    assert (tmp_path / "page.html").is_file()
    assert (tmp_path / "calibration" / "calibration.safetensors").is_file()


def test_a_wrong_sampler_ends_with_its_own_code(command, capsys):
    with pytest.raises(SystemExit) as ended:
        command("--sampler", "mine.py:narrow")
    assert ended.value.code == FAILED
    assert "calibration: failed: p = 0.0" in capsys.readouterr().out


def test_images_in_files_are_truths(command, tmp_path, capsys):
    np.save(tmp_path / "images.npy", 5 * torch.ones(30, *SHAPE).numpy())
    with pytest.raises(SystemExit):
        command("images.npy", "--sampler", "mine.py:sampler")
    assert "24 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sampler", "mine.py:nothing"], "must define nothing as a function"),
        (["--statistics", "mine.py:sampler"], "functions by name, a dict"),
        (["--report", "page.pdf"], "writes HTML"),
        (["--store"], "there is no such file; a shipped prior is left as it is"),
        (["--rank", "3"], "give both --rank and --world-size"),
    ],
)
def test_wrong_options_are_refused(command, options, message, capsys):
    with pytest.raises(SystemExit) as ended:
        command(*options)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
