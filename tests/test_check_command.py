"""`tweedie-inverse check`: images from files in the prior's units; its exit code is the verdict."""

import numpy as np
import pytest
import torch

from tests.test_check_prior import SHAPE, images, wrapped
from tweedie_inverse.app import check_command
from tweedie_inverse.app.cli import main


@pytest.fixture
def prior(monkeypatch):
    """The command takes this prior, whatever it is called; `held` is changed by tests."""
    held = {"prior": wrapped("x0")}
    held["prior"].value_range = (0.0, 1.0)
    monkeypatch.setattr(
        "tweedie_inverse.priors.zoo.load_prior", lambda name, **settings: held["prior"]
    )
    return held


def test_images_of_files_are_checked(prior, tmp_path, capsys):
    np.save(tmp_path / "images.npy", images().numpy())
    main(["check", "any", str(tmp_path / "images.npy")])
    said = capsys.readouterr().out
    assert said.startswith("32 images of (1, 8, 8)\nprior check: passed")


def test_a_prior_that_fails_ends_with_its_own_code(prior, tmp_path, capsys):
    prior["prior"] = wrapped("x0", offset=0.0, scale=1.0)
    np.savez(tmp_path / "images.npz", x=images().numpy(), y=np.zeros(3))
    with pytest.raises(SystemExit) as ended:
        main(["check", "any", str(tmp_path / "images.npz"), "--key", "x"])
    assert ended.value.code == check_command.FAILED
    assert "images on [0, 1] as if they were on [-1, 1]" in capsys.readouterr().out


def test_pictures_are_cut_and_brought_to_the_priors_range(prior, tmp_path, capsys):
    image_of = pytest.importorskip("PIL.Image")
    rows = images(16).clamp(0, 1).mul(255).round().byte().reshape(4, 4, 8, 8)
    picture = rows.permute(0, 2, 1, 3).reshape(32, 32)
    (tmp_path / "photos").mkdir()
    image_of.fromarray(picture.numpy()).save(tmp_path / "photos" / "a.png")
    main(["check", "any", str(tmp_path / "photos")])
    said = capsys.readouterr().out
    assert "0 to 255 become 0 to 1" in said
    assert "16 images of (1, 8, 8)" in said


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(3, 16, 16), None),
        (torch.zeros(1, 4, 16), "4 x 16 pixels, smaller than this prior's 8 x 8"),
        (torch.zeros(2, 3, 4, 5), "holds (2, 3, 4, 5), and this prior is for images of shape"),
    ],
)
def test_files_of_other_shapes(prior, values, message, tmp_path, capsys):
    """Stacks are cut as well; what is no image is refused before anything is measured."""
    np.save(tmp_path / "a.npy", values.numpy())
    if message is None:
        found = check_command._images_in(tmp_path / "a.npy", prior["prior"], None)
        assert found.shape == (12, *SHAPE)
        return
    with pytest.raises(SystemExit) as ended:
        main(["check", "any", str(tmp_path / "a.npy")])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_missing_files_are_named(prior, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["check", "any", str(tmp_path / "none.png")])
    assert "there is no such file" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit):
        main(["check", "any", str(tmp_path / "empty")])
    assert "there is no file in" in capsys.readouterr().err
