"""Examples with published weights run, with small numbers; skipped where these are not at hand."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
FOLDER = Path(__file__).resolve().parents[2] / "shared" / "checkpoints"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no published weights")


def test_mnist_digits(tmp_path):
    main = runpy.run_path(str(EXAMPLES / "mnist_digits.py"))["main"]
    picture = tmp_path / "mnist.png"
    result = main(
        FOLDER, count=1, num_samples=2, steps=16, measured=16, compare=False, picture=str(picture)
    )
    assert picture.stat().st_size > 5_000
    # The wrapping is right, and the network is lost at large sigma.
    assert [one.name for one in result.report.findings if not one.passed] == ["range"]
    assert not result.report.suspects
    assert 2 < result.report.usable[1] < 12
    assert len(result.scores) == 2
    for scores in result.scores.values():
        # 18.7 with a deviation of 1.3 over the random numbers; the example, with more, has 23.
        assert scores.psnr > 18.7 - 4 * 1.3
        assert scores.coverage[0] >= scores.coverage[1]


def test_photograph_with_ffdnet(tmp_path):
    main = runpy.run_path(str(EXAMPLES / "photograph_with_ffdnet.py"))["main"]
    picture = tmp_path / "ffdnet.png"
    scores = main(FOLDER, size=64, num_samples=2, steps=16, picture=str(picture))
    assert picture.stat().st_size > 5_000
    for found in scores.values():
        assert found.psnr > 26
        assert found.sample_psnr < found.psnr
