"""``solve --out NAME.h5`` writes samples as they arrive, and goes on with what is there."""

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tweedie_inverse.app.cli import main

pytest.importorskip("h5py")


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("y.npy", np.linspace(0, 1, 1024, dtype=np.float32).reshape(1, 32, 32))
    np.save("mask.npy", np.ones((32, 32), dtype=np.float32))
    words = "solve y.npy --operator mask --mask mask.npy --noise 0.1 --prior digits-32"
    return [*words.split(), "--samples", "2", "--steps", "2", "--batch-size", "1"]


@pytest.mark.usefixtures("no_pictures")
def test_out_names_the_file_of_samples(command, tmp_path, capsys):
    main([*command, "--out", "r.h5"])
    main([*command, "--out", "r.safetensors"])
    streamed, saved = (ti.Posterior.load(f"r.{suffix}") for suffix in ("h5", "safetensors"))
    assert torch.equal(streamed.samples, saved.samples)
    assert streamed.diagnostics.verdict == saved.diagnostics.verdict
    assert not list(tmp_path.glob("*.parts"))
    content = (tmp_path / "r.h5").read_bytes()
    main([*command, "--out", "r.h5"])  # all of it is there
    main([*command, "--out", "r.h5", "--dry-run"])
    assert "exists, would be gone on with" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*command, "--out", "r.h5", "--seed", "5"])
    assert "belongs to another call: seed (0 there, 5 here)" in capsys.readouterr().err
    assert (tmp_path / "r.h5").read_bytes() == content
