"""The command line as a new user runs it."""

import numpy as np
import pytest
import torch

from tweedie_inverse import operators as ops
from tweedie_inverse.app import demo
from tweedie_inverse.app.cli import main
from tweedie_inverse.datasets.seeds import HELD_OUT_SEED
from tweedie_inverse.datasets.slices import CTSlices
from tweedie_inverse.solving.posterior import Posterior

OPERATOR_FILE = """
from tweedie_inverse import operators as ops
scanner = ops.Tomography((1, 64, 64), angles=6)
number = 3
"""


def test_priors_and_info(capsys):
    main(["priors"])
    assert "phantom-64" in capsys.readouterr().out
    main(["info"])
    assert "torch" in capsys.readouterr().out


def test_solve_from_files(tmp_path, capsys):
    scanner = ops.Tomography((1, 64, 64), angles=6, noise=ops.GaussianNoise(0.5))
    y = scanner.measure(CTSlices(64).images([HELD_OUT_SEED])[0], seed=0)
    np.save(tmp_path / "y.npy", y.numpy())
    (tmp_path / "scanner.py").write_text(OPERATOR_FILE)
    out = tmp_path / "out" / "posterior.safetensors"
    command = ["solve", str(tmp_path / "y.npy"), "--prior", "phantom-64", "--steps", "3"]
    command += ["--samples", "2", "--operator", f"{tmp_path / 'scanner.py'}:scanner"]
    main([*command, "--noise", "0.5", "--out", str(out)])
    assert "verdict: " in capsys.readouterr().out
    assert Posterior.load(out).samples.shape == (2, 1, 64, 64)
    assert out.with_suffix(".png").exists()
    with pytest.raises(SystemExit, match="2"):
        main(command)
    assert "noise level is unknown" in capsys.readouterr().err


DARK = """
from tweedie_inverse import operators as ops
cap = ops.Mask(ops.random_mask((1, 64, 64), 0.1), noise=ops.GaussianNoise(0.05))
"""


def test_strict_is_an_exit_code_of_its_own(tmp_path, capsys):
    """What is in another unit does not fit, and its samples are kept all the same."""
    (tmp_path / "op.py").write_text(DARK)
    (tmp_path / "scans").mkdir()
    cap = ops.Mask(ops.random_mask((1, 64, 64), 0.1), noise=ops.GaussianNoise(0.05))
    y = cap.measure(CTSlices(64).images([HELD_OUT_SEED])[0], seed=0).numpy()
    np.save(tmp_path / "scans" / "good.npy", y)
    np.save(tmp_path / "scans" / "bad.npy", 255 * y)
    settings = ["--prior", "phantom-64", "--steps", "8", "--samples", "1"]
    settings += ["--operator", f"{tmp_path / 'op.py'}:cap", "--out"]
    bad = tmp_path / "bad.safetensors"
    one = ["solve", str(tmp_path / "scans" / "bad.npy"), *settings, str(bad)]
    with pytest.raises(SystemExit, match="3"):
        main([*one, "--strict"])
    told = capsys.readouterr()
    assert "verdict: does not fit the measurement" in told.out
    assert "is y in the prior's value range [0, 1]?" in told.out
    assert "Warning" not in told.err
    assert Posterior.load(bad).diagnostics.causes
    with pytest.raises(SystemExit, match="3"):
        main(["solve", str(tmp_path / "scans"), *settings, str(tmp_path / "all"), "--strict"])
    told = capsys.readouterr()
    assert "1 of 2 are not consistent" in told.err
    assert "bad.safetensors" in told.err
    assert "good.npy: " in told.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--operator", "nowhere.py:scanner", "--prior", "phantom-64"], "with a file that exists"),
        (["--operator", "FILE:number", "--prior", "phantom-64"], "instance of ops.Operator"),
        (["--operator", "FILE:scanner", "--prior", "faces"], "neither a shipped prior"),
    ],
)
def test_wrong_arguments_end_with_a_message(tmp_path, capsys, arguments, message):
    np.save(tmp_path / "y.npy", np.zeros((1, 6, 91), dtype=np.float32))
    (tmp_path / "scanner.py").write_text(OPERATOR_FILE)
    arguments = [part.replace("FILE", str(tmp_path / "scanner.py")) for part in arguments]
    with pytest.raises(SystemExit):
        main(["solve", str(tmp_path / "y.npy"), *arguments])
    assert message in capsys.readouterr().err


def test_train_writes_a_prior_and_resumes(tmp_path, capsys):
    command = ["train", str(tmp_path / "tiny"), "--size", "16", "--batch", "2", "--widths", "8"]
    command += ["8", "--blocks", "1", "1", "--steps"]
    main([*command, "2"])
    main([*command, "3"])
    assert "tiny.safetensors" in capsys.readouterr().out
    main(["priors"])


def test_train_learns_classes_and_a_schedule(tmp_path, capsys):
    command = ["train", str(tmp_path / "digits"), "--data", "digits", "--size", "8", "--batch", "4"]
    command += ["--widths", "8", "8", "--blocks", "1", "1", "--steps", "2", "--conditional"]
    main([*command, "--noise-levels", "learned", "--weight", "inverse-square"])
    assert "digits.safetensors" in capsys.readouterr().out
    assert (tmp_path / "digits" / "digits.schedule.npy").exists()
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--noise-levels", "learned", "--seed", "9"])
    assert "weight is 'inverse-square'" in capsys.readouterr().err


def test_a_training_row_stands_for_three_options():
    from tweedie_inverse.app.cli import _parser

    options = _parser().parse_args(["train", "x", "--row", "v", "--noise-levels", "log-uniform"])
    assert (options.parameterization, options.weight) == ("v", "snr-plus-one")
    assert options.noise_levels == "log-uniform"


def test_demo_draws_every_problem(tmp_path):
    told = []
    results = demo.run(tmp_path, num_samples=3, steps=2, progress=False, tell=told.append)
    assert [r.name for r in results] == ["ct", "inpainting", "deblurring", "super-resolution"]
    for result in results:
        assert (tmp_path / f"{result.name}.png").stat().st_size > 20_000
        assert result.evaluations == 2
    assert "| ct |" in (tmp_path / "table.md").read_text()
    assert str(tmp_path) in told[-1]


def test_demo_truths_are_held_out_and_in_range():
    for problem in demo.problems():
        assert tuple(problem.truth.shape) == problem.operator.domain_shape
        assert float(problem.truth.min()) >= 0
        assert float(problem.truth.max()) <= 1
        assert isinstance(problem.truth, torch.Tensor)


def test_complex_measurements_are_refused(tmp_path, capsys):
    (tmp_path / "op.py").write_text(
        "from tweedie_inverse import operators as ops\n"
        "scanner = ops.Mask(ops.random_mask((1, 64, 64), 0.5), "
        "noise=ops.GaussianNoise(0.1))\n"
    )
    np.save(tmp_path / "y.npy", np.zeros((1, 64, 64), dtype=complex))
    command = ["solve", str(tmp_path / "y.npy"), "--prior", "phantom-64"]
    with pytest.raises(SystemExit):
        main([*command, "--operator", f"{tmp_path / 'op.py'}:scanner"])
    assert "two channels" in capsys.readouterr().err
