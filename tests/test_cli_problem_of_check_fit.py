"""`check-fit` takes the problem file that `solve` takes, and its options come before the file's."""

import numpy as np
import pytest

from tweedie_inverse.app import check_fit_command
from tweedie_inverse.app.cli import _parser, main
from tweedie_inverse.app.equipment import operator_texts

PROBLEM = """
[measurement]
files = "y.npy"
[operator]
name = "mask"
keep = 0.5
[noise]
model = "estimate"
[prior]
name = "digits-32"
value-range = [-1000, 1000]
[solve]
samples = 3
[output]
out = "result/"
"""


def completed(tmp_path, *more):
    (tmp_path / "y.toml").write_text(PROBLEM)
    np.save(tmp_path / "y.npy", np.zeros((1, 32, 32)))
    words, parser = ["check-fit", str(tmp_path / "y.toml"), *more], _parser()
    options = parser.parse_args(words)
    options.result = {}
    return options.complete(parser, words, options)


def test_measurement_operator_noise_and_prior_are_taken(tmp_path):
    found = completed(tmp_path, "--noise", "50", "--count", "19")
    assert found.measurement == [str(tmp_path / "y.npy")]
    assert (found.operator, operator_texts(found)["keep"], found.prior) == (
        "mask",
        "0.5",
        "digits-32",
    )
    assert (found.noise, found.value_range) == ("50", "-1000,1000")
    assert (found.count, found.samples) == (19, check_fit_command.SAMPLES)


def test_a_level_that_is_estimated_is_refused(tmp_path, capsys):
    completed(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["check-fit", str(tmp_path / "y.toml")])
    assert "needs a level that is known" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["check-fit", "--operator", "mask", "--keep", "0.5", "--noise", "1"])
    assert "the measurement is missing" in capsys.readouterr().err
