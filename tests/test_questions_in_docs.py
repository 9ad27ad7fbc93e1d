"""What docs/reading-a-posterior.md shows runs as it stands there."""

import re
from pathlib import Path

import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import random_field
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal

PAGE = Path(__file__).parent.parent / "docs" / "reading-a-posterior.md"


def test_the_examples_of_the_page_run(tmp_path, monkeypatch):
    for package in ("arviz", "h5netcdf", "xarray"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    prior = random_field(64)
    mask = ops.Mask(ops.random_mask((1, 64, 64), 0.5), noise=ops.GaussianNoise(0.2))
    x = prior.draw(2, seed=1)
    y = mask.measure(x, seed=2)
    before = ti.solve(y, mask, prior, num_samples=9, steps=2)
    after = ti.solve(y + 0.1, mask, prior, num_samples=9, steps=2)
    known = {"ti": ti, "torch": torch, "posterior": before, "before": before, "after": after}
    known |= {"x": x, "y": y, "draws": normal(("draws",), (4, 50))}
    # Its references are many: a smaller problem.
    small = random_field(8)
    operator = ops.Mask(ops.random_mask((1, 8, 8), 0.5), noise=ops.GaussianNoise(0.2))
    batch = operator.measure(small.draw(2, seed=1), seed=2)
    of_fit = {"ti": ti, "operator": operator, "prior": small, "y": batch[0], "batch": batch}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) >= 7
    for block in blocks:
        if "check_fit" in block:
            exec(compile(block, str(PAGE), "exec"), of_fit)
            continue
        exec(compile(block, str(PAGE), "exec"), known)
    written = {path.name for path in tmp_path.iterdir()}
    assert written >= {"above.png", "directions.png", "grown.png", "a.nc", "a.h5", "a.tif"}
