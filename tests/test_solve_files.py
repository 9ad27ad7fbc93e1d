"""The command line takes measurements of any kind, and writes results of the same or another."""

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tests import data_files as files
from tweedie_inverse.app.cli import main
from tweedie_inverse.app.exports import RESULT
from tweedie_inverse.solving.posterior import Posterior

h5py = pytest.importorskip("h5py")
nibabel = pytest.importorskip("nibabel")
tifffile = pytest.importorskip("tifffile")
image_of = pytest.importorskip("PIL.Image")

OPERATORS = """
import torch
from tweedie_inverse import operators as ops
noise = ops.GaussianNoise(0.1)
shape = (1, 64, 64)
mask = ops.Mask(ops.random_mask(shape, 0.5), noise=noise)
half = ops.Downsampling(shape, 2, noise=noise)
scanner = ops.Tomography(shape, angles=6, noise=noise)
"""
IMAGE = torch.linspace(0, 1, 64 * 64).reshape(1, 64, 64)
PLACE = np.diag([2.0, 3.0, 4.0, 1.0])


@pytest.fixture
def command(tmp_path):
    (tmp_path / "op.py").write_text(OPERATORS)

    def solve(measurement, operator, *more, samples=2):
        settings = ["--prior", "phantom-64", "--steps", "1", "--samples", str(samples)]
        operator = f"{tmp_path / 'op.py'}:{operator}"
        main(["solve", str(measurement), "--operator", operator, *settings, *map(str, more)])

    return solve


def refused(capsys, *arguments, command, **options):
    with pytest.raises(SystemExit, match="2"):
        command(*arguments, **options)
    return capsys.readouterr().err


def make_all(folder):
    """One measurement in every kind that can hold it as it is."""
    for name in ("a.npy", "a.npz", "a.h5", "a.fits", "a.tif"):
        ti.io.write(folder / name, IMAGE)
    nibabel.save(nibabel.Nifti1Image(IMAGE[0].numpy().T[:, :, None], PLACE), folder / "a.nii.gz")
    ti.io.write(folder / "a.dcm", IMAGE)
    return ("a.npy", "a.npz", "a.h5", "a.fits", "a.tif", "a.nii.gz", "a.dcm")


def test_every_kind_is_solved_as_its_numbers_are(tmp_path, command):
    (tmp_path / "data").mkdir()
    for name in make_all(tmp_path):
        if name in ("a.h5", "a.tif", "a.nii.gz", "a.dcm"):
            (tmp_path / name).rename(tmp_path / "data" / f"{name[2:].replace('.', '')}-{name}")
    command(tmp_path / "data", "mask", "--out", tmp_path / "out", "--write", "mean", samples=1)
    assert len(list((tmp_path / "out").glob("*.record.json"))) == 4
    for name in ("tif-a.tif", "niigz-a.nii.gz", "dcm-a.dcm", "h5-a.h5"):
        stem = name.partition(".")[0]
        saved = Posterior.load(tmp_path / "out" / f"{stem}.safetensors")
        written = ti.io.read(tmp_path / "out" / f"{stem}.mean{name[name.index('.') :]}")
        near = 1e-4 if name.endswith("dcm") else 0
        assert torch.allclose(written.values, saved.mean, rtol=0, atol=near)


def test_results_have_the_measurements_place_and_are_added_later(tmp_path, command, capsys):
    (tmp_path / "data").mkdir()
    image = nibabel.Nifti1Image(IMAGE[0].numpy().T[:, :, None], PLACE)
    nibabel.save(image, tmp_path / "data" / "scan.nii.gz")
    command(tmp_path / "data", "mask", "--out", tmp_path / "data")
    result = tmp_path / "data" / "scan.safetensors"
    before = result.stat().st_mtime_ns
    what = ["--write", "mean", "std", "0.05", "samples"]
    command(tmp_path / "data", "mask", "--out", tmp_path / "data", *what)
    assert "already there" in capsys.readouterr().out
    assert result.stat().st_mtime_ns == before
    posterior = Posterior.load(result)
    for name, values in (
        ("mean", posterior.mean),
        ("std", posterior.std),
        ("q0.05", posterior.quantile(0.05)),
        ("samples", posterior.samples),
    ):
        path = tmp_path / "data" / f"scan.{name}.nii.gz"
        assert RESULT.fullmatch(path.name.removesuffix(".nii.gz"))
        assert torch.equal(ti.io.read(path).values, values)
        assert np.array_equal(nibabel.load(path).affine, PLACE)


def test_kinds_and_places_are_chosen(tmp_path, command, capsys):
    small = torch.nn.functional.avg_pool2d(IMAGE, 2)
    tifffile.imwrite(
        tmp_path / "y.tif", small[0].numpy(), resolution=(5, 5), resolutionunit="CENTIMETER"
    )
    out = tmp_path / "r.safetensors"
    command(tmp_path / "y.tif", "half", "--out", out, "--as", "h5")
    told = capsys.readouterr().out
    assert "spacing 1, 1 mm" in told
    for name in ("mean", "std"):
        assert ti.io.read(tmp_path / f"r.{name}.h5").spacing == (1.0, 1.0)
    np.save(tmp_path / "s.npy", np.zeros((1, 6, 91), np.float32))
    like = files.dicom_slice(tmp_path, pixels=np.zeros((64, 64), np.int16), name="ct.dcm")
    more = ["--like", like, "--write", "samples", "mean", "--as", "dcm"]
    command(tmp_path / "s.npy", "scanner", "--out", out, *more)
    found = ti.io.read(tmp_path / "r.sample-2.dcm")
    assert (found.spacing, found.units) == ((0.5, 0.75), "")
    near = torch.allclose(found.values, Posterior.load(out).samples[1], rtol=0, atol=1e-4)
    assert near
    ti.io.write(tmp_path / "s.h5", np.zeros((1, 6, 91), np.float32), units="counts")
    command(tmp_path / "s.h5", "scanner", "--out", out, "--write", "mean")
    assert "left out: the image is not on the measurement's grid" in capsys.readouterr().out
    assert ti.io.read(tmp_path / "r.mean.h5").units == ""


def test_pictures_become_the_priors_values(tmp_path, command, capsys):
    whole = np.rint(IMAGE[0].numpy() * 255).astype(np.uint8)
    image_of.fromarray(whole).save(tmp_path / "y.png")
    out = tmp_path / "r.safetensors"
    command(tmp_path / "y.png", "mask", "--out", out, "--write", "mean", "std")
    told = capsys.readouterr().out
    assert "0 to 255 become 0 to 1, the prior's value range" in told
    assert "r.mean.png: black is 0, white 1" in told
    written = np.array(image_of.open(tmp_path / "r.mean.png")) / 65535
    mean = Posterior.load(out).mean[0].clamp(0, 1).numpy()
    assert np.abs(written - mean).max() < 1e-5


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path, command, capsys):
    (tmp_path / "op.py").write_text("raise AssertionError('executed')")
    np.save(tmp_path / "y.npy", IMAGE.numpy())
    (tmp_path / "r.mean.npy").symlink_to(tmp_path / "y.npy")
    out = tmp_path / "r.safetensors"
    for more, reason in (
        (["--write", "median"], "needs mean, std, samples, or a quantile"),
        (["--write", "1.5"], "needs mean, std, samples, or a quantile"),
        (["--write", "std"], "one sample has no standard deviation"),
        (["--write", "mean"], "which is read"),
        (["--like", tmp_path / "y.npy"], "name what to write"),
        (["--write", "0.5", "--like", tmp_path / "gone.nii"], "there is no such file"),
    ):
        arguments = (tmp_path / "y.npy", "mask", "--out", out, *more)
        assert reason in refused(capsys, *arguments, command=command, samples=1)


def test_keys_and_names_that_collide(tmp_path, command, capsys):
    np.savez(tmp_path / "y.npz", a=IMAGE.numpy(), b=IMAGE.numpy() / 2)
    out = tmp_path / "r.safetensors"
    arguments = (tmp_path / "y.npz", "mask", "--out", out)
    assert "holds several arrays" in refused(capsys, *arguments, command=command)
    command(*arguments, "--key", "b")
    (tmp_path / "data").mkdir()
    make_all(tmp_path / "data")
    arguments = (tmp_path / "data", "mask", "--out", tmp_path / "out")
    told = refused(capsys, *arguments, command=command)
    assert "would both be written to" in told
    assert "'folder/*.npy'" in told
