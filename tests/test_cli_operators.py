"""Every operator of the catalogue by name on the command line: the same object as in Python."""

import inspect

import numpy as np
import pytest
import torch
from scipy import sparse

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.app.catalogue.asked import asked_for
from tweedie_inverse.app.catalogue.instruments import INSTRUMENTS
from tweedie_inverse.app.catalogue.noises import NOISES, settled, text_of
from tweedie_inverse.app.catalogue.options import OPTIONS
from tweedie_inverse.app.cli import main
from tweedie_inverse.solving.posterior import Posterior

# What `ops` offers and the command line does not name, and why.
ELSEWHERE = {
    "bases and what derives from them": [
        "LinearOperator", "NoiseModel", "Operator", "UnknownNoise", "spectral",
    ],
    "made of other operators or foreign objects, in a file FILE.py:NAME": [
        "compose", "from_astra", "from_deepinv", "from_diffct", "from_mri_nufft", "from_pylops",
        "per_image", "UnknownPhase", "scale", "slicewise", "stack", "to_deepinv", "to_pylops",
        "to_scipy", "transpose",
    ],
    "what --width LOW..HIGH makes": ["Parametric", "ScalarPrior", "parametric"],
    "questions to an operator or to data": [
        "adjoint_error", "dense_matrix", "estimate_coil_maps", "estimate_noise", "estimate_phase",
        "linearity_error", "operator_norm",
    ],
}  # fmt: skip


def test_every_operator_and_noise_has_a_name():
    """A new one is entered in the catalogue, or above with the reason why not."""
    named = {name for row in (*INSTRUMENTS.values(), *NOISES.values()) for name in row.makes}
    left_out = {name for names in ELSEWHERE.values() for name in names}
    assert named | left_out == set(ops.__all__)
    assert not named & left_out


def test_every_option_is_of_an_instrument():
    of = {option for row in INSTRUMENTS.values() for option in row.options}
    assert of == set(OPTIONS)
    for row in INSTRUMENTS.values():
        named = {*row.only_with, *row.then_needs, *(o for group in row.needs for o in group)}
        assert named <= set(row.options)


# Of a constructor: what the options call otherwise, and what follows from the prior.
CALLED = {"kernel_size": "size", "filter": "kernel", "colour_weights": "weights"}
FOLLOWS = {"image_shape", "shape", "noise", "complex_image"}


@pytest.mark.parametrize(
    "name",
    ["tomography", "blind-blur", "downsampling", "greyscale", "demosaicing", "clipping",
     "quantization", "phase-retrieval"],
)  # fmt: skip
def test_every_setting_of_a_constructor_is_an_option(name):
    row = INSTRUMENTS[name]
    settings = set(inspect.signature(getattr(ops, row.makes[0])).parameters) - FOLLOWS
    keywords = {OPTIONS[option].keyword for option in row.options} - {"pattern_seed"}
    assert {CALLED.get(word, word) for word in keywords} == settings


SHAPE, COLOUR = (1, 16, 16), (3, 16, 16)
KERNEL = np.random.default_rng(0).random((3, 5)).astype(np.float32)
SEEN = np.random.default_rng(1).random((16, 16)) < 0.5
COILS = np.exp(1j * np.random.default_rng(2).random((2, 16, 16))).astype(np.complex64)
SYSTEM = np.random.default_rng(3).random((7, 256))


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The files that the options below name."""
    monkeypatch.chdir(tmp_path)
    np.save("kernel.npy", KERNEL)
    ti.io.write("seen.png", SEEN.astype(np.float32), value_range=(0, 1))
    np.savez("scan.npz", mask=SEEN, coils=COILS)
    np.savetxt("angles.txt", [0.0, 10, 25])
    np.save("system.npy", SYSTEM)
    sparse.save_npz("system.npz", sparse.csr_matrix(SYSTEM))


ASKED = {
    "tomography": [
        ("angles=5", SHAPE, lambda: ops.Tomography(SHAPE, 5)),
        ("angles=0,10,25 geometry=fan source-distance=40 detector-distance=0 centre=7,8", SHAPE,
         lambda: ops.Tomography(SHAPE, [0, 10, 25], geometry="fan", source_distance=40,
                                detector_distance=0, centre=(7, 8))),
        ("angles=angles.txt detectors=21 detector-offset=.7 angle-offset=-3 pixel-size=2 "
         "detector-spacing=1.5 storage=matrix-free", SHAPE,
         lambda: ops.Tomography(SHAPE, [0, 10, 25], 21, detector_offset=.7, angle_offset=-3,
                                pixel_size=2, detector_spacing=1.5)),
    ],
    "transmission": [
        ("angles=4 photons=1e3", SHAPE, lambda: ops.Transmission(ops.Tomography(SHAPE, 4), 1e3)),
    ],
    "blur": [
        ("width=1.5", COLOUR, lambda: ops.Blur(ops.gaussian_kernel(1.5), COLOUR)),
        ("width=2 width-across=.8 angle=30 kernel-size=9 padding=reflect", SHAPE,
         lambda: ops.Blur(ops.gaussian_kernel((2, .8), 9, angle=30), SHAPE, padding="reflect")),
        ("length=4 angle=20", SHAPE,
         lambda: ops.Blur(ops.motion_kernel(length=4, angle=20), SHAPE)),
        ("shake=3 kernel-size=7", SHAPE, lambda: ops.Blur(ops.motion_kernel(7, seed=3), SHAPE)),
        ("kernel=kernel.npy padding=valid", SHAPE,
         lambda: ops.Blur(torch.tensor(KERNEL), SHAPE, padding="valid")),
    ],
    "downsampling": [
        ("factor=2 filter=block_mean boundary=circular", COLOUR,
         lambda: ops.Downsampling(COLOUR, 2, kernel="block_mean", boundary="circular")),
    ],
    "mask": [
        ("mask=seen.png", COLOUR, lambda: ops.Mask(torch.tensor(SEEN), channels=3)),
        ("mask=scan.npz:mask", SHAPE, lambda: ops.Mask(torch.tensor(SEEN))),
        ("keep=.3 pattern-seed=5", SHAPE, lambda: ops.Mask(ops.random_mask(SHAPE, .3, seed=5))),
        ("box=4,6", COLOUR, lambda: ops.Mask(ops.box_mask(COLOUR, (4, 6)))),
    ],
    "fourier-sampling": [
        ("acceleration=4 centre-share=.2 pattern-seed=2", SHAPE,
         lambda: ops.FourierSampling(ops.cartesian_mask((16, 16), 4, centre=.2, seed=2),
                                     real=True)),
        ("spokes=5", (2, 16, 16), lambda: ops.FourierSampling(ops.radial_mask((16, 16), 5))),
        ("mask=scan.npz:mask coils=scan.npz:coils", SHAPE,
         lambda: ops.FourierSampling(torch.tensor(SEEN), coils=torch.tensor(COILS), real=True)),
    ],
    "greyscale": [
        ("", COLOUR, lambda: ops.Greyscale(COLOUR)),
        ("colour-weights=.2,.3,.5", COLOUR, lambda: ops.Greyscale(COLOUR, weights=(.2, .3, .5))),
    ],
    "demosaicing": [("pattern=BGGR", COLOUR, lambda: ops.Demosaicing(COLOUR, pattern="BGGR"))],
    "structured-random": [
        ("measurements=30 pattern-seed=1", SHAPE,
         lambda: ops.StructuredRandom(SHAPE, 30, seed=1)),
    ],
    "phase-retrieval": [
        ("oversampling=1 codes=2 pattern-seed=1 intensity=true", SHAPE,
         lambda: ops.PhaseRetrieval(SHAPE, oversampling=1, intensity=True,
                                    codes=ops.random_codes(2, (16, 16), seed=1))),
        ("", SHAPE, lambda: ops.PhaseRetrieval(SHAPE)),
    ],
    "clipping": [("low=.2 high=.7", SHAPE, lambda: ops.Clipping(SHAPE, low=.2, high=.7))],
    "quantization": [("step=.25", SHAPE, lambda: ops.Quantization(SHAPE, .25))],
    "matrix": [
        (f"matrix=system.{kind}", shape, lambda shape=shape: ops.from_scipy(SYSTEM,
                                                                            domain_shape=shape))
        for kind in ("npy", "npz") for shape in (SHAPE, (256,))
    ],
}  # fmt: skip
ROWS = [(name, *row) for name, rows in ASKED.items() for row in rows]


def asked(name, text, noise=None):
    return asked_for(name, dict(word.split("=", 1) for word in text.split()), noise)


@pytest.mark.parametrize(("name", "text", "shape", "expected"), ROWS)
def test_options_make_the_operator_of_python(name, text, shape, expected, files):
    noise = ops.GaussianNoise(0.1)
    made, right = asked(name, text, noise).made(shape), expected()
    x = torch.rand((2, *shape), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(made.forward(x).double(), right.forward(x).double(), atol=1e-5)
    assert made.noise is noise


def test_the_operators_asked_for_are_all():
    assert set(ASKED) | {"blind-blur"} == set(INSTRUMENTS)


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_the_example_of_an_instrument_is_accepted(name, files):
    words = INSTRUMENTS[name].example.replace("--noise poisson", "").split()
    pairs = zip(words[::2], words[1::2], strict=True)
    asked_for(name, {option.removeprefix("--"): text for option, text in pairs}, None)


@pytest.mark.parametrize(
    ("name", "text", "prior", "measurement", "image"),
    [
        ("mask", "keep=.5", SHAPE, (40, 50), (1, 40, 50)),
        ("mask", "keep=.5 size=8,9", SHAPE, (40, 50), (1, 8, 9)),
        ("blur", "width=1 padding=valid", SHAPE, (1, 40, 50), (1, 46, 56)),
        ("blur", "kernel=kernel.npy padding=valid", SHAPE, (1, 40, 50), (1, 42, 54)),
        ("downsampling", "factor=4", COLOUR, (3, 8, 9), (3, 32, 36)),
        ("downsampling", "factor=1.5", COLOUR, (3, 10, 10), COLOUR),
        ("fourier-sampling", "spokes=4", SHAPE, (4, 20, 22), (1, 20, 22)),
        ("phase-retrieval", "", SHAPE, (1, 40, 40), (1, 20, 20)),
        ("demosaicing", "", COLOUR, (1, 8, 8), (3, 8, 8)),
        ("tomography", "", SHAPE, (12, 31), SHAPE),
        ("structured-random", "", SHAPE, (77,), SHAPE),
    ],
)
def test_the_image_has_the_size_that_the_measurement_tells(
    name, text, prior, measurement, image, files
):
    made = asked(name, text).made(prior, measurement)
    assert made.domain_shape == image
    if "size=" not in text:
        assert made.range_shape[-len(measurement) :][-1] == measurement[-1]


def test_unknown_numbers_are_ranges():
    made = asked("blur", "width=.5..2").made(COLOUR)
    assert isinstance(made, ops.Parametric)
    assert [(one.low, one.high) for one in made.unknowns.values()] == [(0.5, 2.0)]
    right = ops.Blur(ops.gaussian_kernel(0.9, 13), COLOUR)
    x = torch.rand((1, *COLOUR), generator=torch.Generator().manual_seed(0))
    assert torch.equal(made.at(width=0.9).forward(x), right.forward(x))
    motion = asked("blur", "length=0..6 angle=-20..50").made(SHAPE)
    assert list(motion.unknowns) == ["length", "angle"]
    scan = asked("tomography", "angles=3 detector-offset=-2..2").made(SHAPE)
    assert list(scan.unknowns) == ["detector_offset"]
    with pytest.raises(ValueError, match=r"--factor 2\.\.3: cannot be unknown"):
        asked("downsampling", "factor=2..3")
    with pytest.raises(ValueError, match="not linear"):
        asked("transmission", "angles=3 photons=9 angle-offset=0..1").made(SHAPE)


NOISE = {
    "0.05": ("GaussianNoise(0.05)", {"std": 0.05}),
    "gaussian:std=0.05": ("GaussianNoise(0.05)", {"std": 0.05}),
    "estimate": ("estimate", {"model": "estimate"}),
    "estimate:0.01..0.2": (None, {"model": "estimate", "range": "0.01..0.2"}),
    "poisson": ("PoissonNoise(1)", {"model": "poisson"}),
    "poisson:0.5": ("PoissonNoise(0.5)", {"model": "poisson", "gain": 0.5}),
    "poisson-gaussian:0.5,std=2": (None, {"model": "poisson-gaussian", "gain": 0.5, "std": 2}),
    "digitized:0.1,0.25,high=1": (
        None,
        {"model": "digitized", "std": 0.1, "step": 0.25, "high": 1},
    ),
}


@pytest.mark.parametrize("text", NOISE)
def test_noise_is_said_in_a_text_or_a_table(text):
    shown, table = NOISE[text]
    found, again = settled(text), settled(text_of(table))
    assert repr(found.model()) == repr(again.model())
    if shown is not None:
        assert repr(found.model()).strip("'") == shown


@pytest.mark.parametrize(
    ("text", "unknown", "known"),
    [
        ("poisson:0.1..2", ("gain",), {}),
        ("poisson-gaussian:0.1..2,0.5", ("gain",), {"std": 0.5}),
        ("poisson-gaussian:1,0.1..2", ("std",), {"gain": 1.0}),
    ],
)
def test_a_range_of_a_number_of_counts_is_drawn(text, unknown, known):
    noise = settled(text).model()
    assert noise.unknown_names == unknown
    assert noise.known == known
    assert "0.1" in repr(noise)


def test_noise_of_every_entry_is_in_a_file(tmp_path):
    np.save(tmp_path / "std.npy", np.full((1, 4, 4), 0.3))
    assert settled(str(tmp_path / "std.npy")).model().std.shape == (1, 4, 4)


REFUSED = {
    "mask --kep .5": "--kep: there is no such option; did you mean --keep?",
    "maks --keep .5": "did you mean mask?",
    "mask": "needs one of --mask, --keep, --box",
    "mask --keep .5 --box 4": "takes one of --mask, --keep, --box, not --keep and --box",
    "mask --keep .5 --angles 3": "--angles: is an option of --operator tomography and transmission",
    "mask --keep many": "--keep: needs a number above 0, got 'many'",
    "mask --mask no.npy": "--mask: no.npy: there is no such file",
    "mask --box 4 --pattern-seed 1": "--pattern-seed: means something only with --keep",
    "mask --keep .5 --size 4,5,6": "--size: needs HEIGHT,WIDTH",
    "blur --length 3": "--length: needs --angle beside it",
    "blur --width 4..2": "--width: needs LOW..HIGH with LOW below HIGH",
    "blur --width nan": "--width: needs a number above 0",
    "tomography --geometry cone": "--geometry: needs one of parallel, fan, got 'cone'",
    "tomography --angles ten": "--angles: needs a count, angles in degrees",
    "mask --keep .5 --noise poison": "did you mean poisson?",
    "mask --keep .5 --noise poisson-gaussian:1": "needs std, the standard deviation of the read",
    "mask --keep .5 --noise digitized:1,1,x=3": "takes std, step, low, high, not x",
    "mask --keep .5 --noise 0..1": "--noise 0..1: needs a standard deviation",
    "mask --keep .5 --noise digitized:1..2,1": "std must be known; a range is for estimate",
    "mask --keep .5 --noise -1": "--noise -1: std needs a number above 0",
}


@pytest.mark.parametrize("words", REFUSED)
def test_wrong_options_are_refused_before_a_network_is_loaded(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tweedie_inverse.priors.zoo.load_prior", None)
    monkeypatch.chdir(tmp_path)
    np.save("y.npy", np.zeros(SHAPE, np.float32))
    more = [] if "--noise" in words else ["--noise", "1"]
    command = ["solve", "y.npy", "--prior", "phantom-64", *more, "--operator", *words.split()]
    with pytest.raises(SystemExit, match="2"):
        main(command)
    assert REFUSED[words] in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["y.npy"]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("--operator", "--operator is missing"),
        ("--noise", "--noise is missing"),
        ("--prior", "--prior is missing"),
    ],
)
def test_what_is_missing_is_named(missing, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("y.npy", np.zeros(SHAPE, np.float32))
    given = {"--operator": "quantization", "--noise": "1", "--prior": "phantom-64"}
    del given[missing]
    more = ["--step", "1"] if missing != "--operator" else []
    with pytest.raises(SystemExit, match="2"):
        main(["solve", "y.npy", *more, *(word for pair in given.items() for word in pair)])
    assert message in capsys.readouterr().err


MISFITS = {
    "tomography --angles 20": "makes measurements of shape (1, 20, 64) of images (1, 64, 64), and "
    "this one has shape (1, 64, 64). A sinogram has a row for each angle",
    "downsampling --factor 2": "the image is 128 x 128, and this prior is for 64 x 64: --tiled",
    "mask --keep .5 --size 32": "makes measurements of shape (1, 32, 32)",
    "greyscale": "Greyscale",
}


@pytest.mark.parametrize("words", MISFITS)
def test_a_measurement_of_another_shape_is_refused(words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("y.npy", np.zeros((1, 64, 64), np.float32))
    command = ["solve", "y.npy", "--prior", "phantom-64", "--noise", "1", "--operator"]
    with pytest.raises(SystemExit, match="2"):
        main([*command, *words.split()])
    assert MISFITS[words] in capsys.readouterr().err


def test_a_grey_picture_and_a_prior_of_colours(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ti.io.write("y.png", np.full((64, 64), 0.5, np.float32), value_range=(0, 1))
    command = ["solve", "y.png", "--prior", "photo-64", "--noise", "1", "--operator", "mask"]
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--keep", "0.5"])
    told = capsys.readouterr().err
    assert "the measurement has 1 channel" in told
    assert "--operator greyscale" in told


def test_solve_by_name_is_solve_in_python(tmp_path, monkeypatch, no_pictures):
    monkeypatch.chdir(tmp_path)
    mask = ops.Mask(ops.random_mask((1, 32, 32), 0.5, seed=3), noise=ops.GaussianNoise(0.1))
    y = mask.measure(torch.full((1, 32, 32), 0.4), seed=1)
    np.save("y.npy", y.numpy())
    words = "solve y.npy --operator mask --keep 0.5 --pattern-seed 3 --noise 0.1 --prior digits-32"
    main([*words.split(), "--samples", "2", "--steps", "3", "--seed", "7"])
    right = ti.solve(y, mask, ti.load_prior("digits-32"), num_samples=2, steps=3, seed=7)
    assert torch.equal(Posterior.load("posterior.safetensors").samples, right.samples)


@pytest.mark.parametrize("command", ["calibrate phantom-64", "check-fit y.npy --prior phantom-64"])
def test_commands_that_need_a_known_level_say_so(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tweedie_inverse.priors.zoo.load_prior", None)
    monkeypatch.chdir(tmp_path)
    words = [*command.split(), "--operator", "mask", "--keep", "0.5", "--noise", "estimate"]
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "needs a level that is known; `solve` estimates it" in capsys.readouterr().err
