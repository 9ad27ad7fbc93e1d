"""What docs/interoperability.md shows runs as it stands there."""

import re
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[1] / "docs" / "interoperability.md"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::tweedie_inverse.PosteriorWarning")
def test_the_page_runs(capsys):
    for package in ("deepinv", "pylops", "scipy"):
        pytest.importorskip(package)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    names: dict = {}
    with torch.random.fork_rng():  # deepinv reads the global generator
        for block in blocks:
            exec(compile(block, PAGE.name, "exec"), names)
    assert len(blocks) == 7
    assert float(names["found"]["PSNR"]) > 20
    assert names["posterior"].samples.shape == (1, 2, 1, 64, 64)
