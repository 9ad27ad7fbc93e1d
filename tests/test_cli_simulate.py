"""`simulate` and `sample`: measurements of an image, images of a prior."""

import json
import tomllib

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.app.cli import main
from tweedie_inverse.priors.guidance import given
from tweedie_inverse.priors.rescaled import Rescaled

image_of = pytest.importorskip("PIL.Image")
h5py = pytest.importorskip("h5py")

IMAGE = np.rint(np.linspace(0, 255, 96 * 80)).reshape(96, 80).astype(np.uint8)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, no_pictures):
    monkeypatch.chdir(tmp_path)
    image_of.fromarray(IMAGE).save("grey.png")
    image_of.fromarray(np.stack([IMAGE] * 3, -1)).save("colour.png")
    return tmp_path


def refused(capsys, *words):
    with pytest.raises(SystemExit, match="2"):
        main(list(words))
    return capsys.readouterr().err


def test_a_measurement_is_that_of_python_and_solve_takes_it(folder, capsys):
    scan = ["--operator", "tomography", "--angles", "9", "--noise", "0.5", "--seed", "4"]
    words = ["simulate", "grey.png", "--crop", "32", *scan, "--prior", "digits-32"]
    main([*words, "--out", "out/y.npy", "--truth", "out/x.npy"])
    assert "0 to 255 become 0 to 1" in capsys.readouterr().out
    x = torch.tensor(IMAGE[32:64, 24:56] / 255).float()[None]
    assert torch.allclose(torch.tensor(np.load("out/x.npy")), x, atol=1e-6)
    right = ops.Tomography((1, 32, 32), 9, noise=ops.GaussianNoise(0.5)).measure(x, seed=4)
    assert torch.allclose(torch.tensor(np.load("out/y.npy")), right, atol=1e-4)
    main(["solve", "out/y.toml", "--samples", "1", "--steps", "1", "--out", "r.safetensors"])
    assert (folder / "r.safetensors").exists()


def test_sizes_change_by_an_option_only(folder, capsys):
    words = ["--operator", "mask", "--keep", "0.5", "--noise", "0.1", "--out", "y.npy"]
    main(["simulate", "grey.png", *words])
    assert np.load("y.npy").shape == (1, 96, 80)
    main(["simulate", "colour.png", *words, "--resize", "48,40"])
    assert np.load("y.npy").shape == (3, 48, 40)
    main(["simulate", "colour.png", *words, "--grey", "--crop", "70,64", "--resize", "33"])
    assert np.load("y.npy").shape == (1, 33, 33)
    prior = ["--prior", "phantom-64"]
    assert "--grey makes it grey" in refused(capsys, "simulate", "colour.png", *words, *prior)
    told = refused(capsys, "simulate", "grey.png", *words, *prior, "--resize", "32")
    assert "smaller than the 64,64 of --prior phantom-64; --resize 64,64" in told
    assert "has 96 x 80 pixels" in refused(capsys, "simulate", "grey.png", *words, "--crop", "100")
    main(["simulate", "grey.png", *words, *prior])
    assert tomllib.loads((folder / "y.toml").read_text())["prior"]["tiled"] is True
    assert "larger than the 64,64 of phantom-64" in capsys.readouterr().out


def test_numbers_in_other_units_are_said_and_kept(folder, capsys):
    hounsfield = torch.linspace(-1000, 1000, 64 * 64).reshape(1, 64, 64)
    ti.io.write("scan.h5", hounsfield, units="HU", spacing=(2.0, 2.0))
    words = [
        "simulate",
        "scan.h5",
        "--operator",
        "mask",
        "--keep",
        "0.9",
        "--noise",
        "20",
        "--prior",
        "phantom-64",
    ]
    words += ["--out", "y.h5"]
    told = refused(capsys, *words)
    assert "values from -1000 to 1000, and those of --prior phantom-64 lie in 0 to 1" in told
    main([*words, "--value-range", "-1000,1000"])
    found = ti.io.read("y.h5")
    assert (found.units, found.spacing) == ("HU", (2.0, 2.0))
    seen = found.values != 0
    assert float((found.values - hounsfield)[seen].abs().max()) < 120
    assert tomllib.loads((folder / "y.toml").read_text())["prior"]["value-range"] == [-1000, 1000]
    bare = ["solve", "y.h5", "--operator", "mask", "--keep", "0.9", "--noise", "20"]
    main([*bare, "--prior", "phantom-64", "--samples", "1", "--steps", "1"])
    assert "lie in 0 to 1; --value-range LOW,HIGH says which" in capsys.readouterr().out
    main([*words, "--rescale=-1000,1000", "--noise", "0.01"])
    assert float(ti.io.read("y.h5").values.max()) < 1.1


def test_k_space_is_written_as_complex_numbers():
    words = ["--crop", "32", "--operator", "fourier-sampling", "--spokes", "9", "--noise", "0.01"]
    main(["simulate", "grey.png", *words, "--prior", "digits-32", "--out", "k.npz"])
    k = ti.io.read("k.npz").values
    assert k.dtype == torch.complex64
    assert k.shape == (32, 32)
    main(["solve", "k.toml", "--samples", "1", "--steps", "1"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--operator blur --width 1..2 --noise 1", "--width: needs a number here; a range is for"),
        ("--operator mask --keep 0.5 --noise estimate", "needs a level that is known"),
        ("--operator mask --keep 0.5 --noise estimate:1..2", "needs a level that is known"),
        ("--operator mask --keep 0.5", "--noise is missing"),
        ("--operator tomography --noise 1", "--operator tomography: needs --angles"),
        ("--noise 1", "simulate: --operator is missing"),
        ("--operator mask --keep .5 --noise 1 --resize a", "--resize: needs height,width"),
        ("--operator mask --keep .5 --noise 1 --rescale 1,1", "LOW and HIGH must differ"),
        ("--operator mask --keep .5 --noise 1 --value-range 0,1", "--value-range is of a prior"),
    ],
)
def test_what_cannot_be_simulated_is_refused(words, message, folder, capsys):
    assert message in refused(capsys, "simulate", "grey.png", "--out", "y.npy", *words.split())
    assert not (folder / "y.npy").exists()
    assert not (folder / "y.toml").exists()


def test_the_image_is_not_written_over(capsys):
    words = ["--operator", "mask", "--keep", "0.5", "--noise", "1", "--out", "grey.png"]
    assert "which is read" in refused(capsys, "simulate", "grey.png", *words)


# Priors in other units


def test_a_prior_in_other_units_has_the_same_posterior_in_them():
    own = ti.priors.Gaussian(torch.full((1, 6, 6), 0.3), power_spectrum=torch.ones(6, 6) * 0.04)
    own.value_range = (0.0, 1.0)
    prior = Rescaled(own, (-1000.0, 1000.0))
    mask = ops.random_mask((1, 6, 6), 0.5)
    y = torch.rand((1, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    options = {"num_samples": 3, "steps": 8, "seed": 1}
    right = ti.solve(y * mask, ops.Mask(mask, noise=ops.GaussianNoise(0.1)), own, **options)
    scaled = (2000 * y - 1000) * mask
    found = ti.solve(scaled, ops.Mask(mask, noise=ops.GaussianNoise(200.0)), prior, **options)
    assert torch.allclose(found.samples, 2000 * right.samples - 1000, atol=1e-6)
    with pytest.raises(ValueError, match="needs low < high"):
        Rescaled(own, (1.0, 0.0))


def test_a_network_in_other_units_is_the_same_network():
    own = ti.load_prior("phantom-64")
    prior = Rescaled(own, (-1000.0, 1000.0))
    x = torch.rand((2, 1, 64, 64), generator=torch.Generator().manual_seed(0))
    found = prior.denoise(2000 * x - 1000, 600.0)
    assert torch.allclose(found, 2000 * own.denoise(x, 0.3) - 1000, atol=0.1)
    wide, narrow = prior.conditional_covariance(600.0, found), own.conditional_covariance(
        0.3, (found + 1000) / 2000
    )  # fmt: skip
    assert torch.allclose(wide.variance, 2000**2 * narrow.variance, rtol=1e-4)
    assert Rescaled(own.tiled(), (0.0, 2.0)).for_shape((1, 96, 96)).shape == (1, 96, 96)


# Samples


def test_samples_are_those_of_python(folder, capsys):
    words = [
        "sample",
        "digits-32",
        "--count",
        "2",
        "--steps",
        "2",
        "--recipe",
        "heun",
        "--seed",
        "5",
        "--classes",
        "3",
        "7",
    ]
    main([*words, "--out", "d/digits.npy"])
    prior = ti.load_prior("digits-32")
    right = [ti.sample(given(prior, k), 2, recipe="heun", steps=2, seed=5) for k in (3, 7)]
    assert torch.equal(torch.tensor(np.load("d/digits.npy")), torch.cat(right))
    assert (folder / "d" / "digits.png").stat().st_size > 3000
    assert "samples: " in capsys.readouterr().out


def test_a_picture_alone(folder, capsys):
    main(["sample", "digits-32", "--count", "3", "--steps", "1", "--out", "grid.png", "--json"])
    assert sorted(path.name for path in folder.iterdir()) == ["colour.png", "grey.png", "grid.png"]
    assert image_of.open("grid.png").size[0] > 100
    found = json.loads(capsys.readouterr().out)
    assert (found["shape"], found["samples"]) == ([3, 1, 32, 32], None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("phantom-64 --classes 1", "--classes 1: given(label=1): this network has no classes"),
        ("digits-32 --classes 12", "has 10 classes, 0 to 9"),
        ("phantom-64 --count 0", "needs at least one sample"),
        ("phantom-64 --recipe dimm", "dimm"),
        ("phantom-64 --out x.unknown", "x.unknown"),
        ("phantom-46", "neither a shipped prior"),
    ],
)
def test_samples_that_cannot_be(words, message, folder, capsys):
    assert message in refused(capsys, "sample", "--steps", "1", *words.split())
    assert not list(folder.glob("samples*"))
