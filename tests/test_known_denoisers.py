"""Published denoisers by their keys: the authors' formula, and the levels of their training."""

import warnings
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tweedie_inverse as ti
from tests.networks import one_line, seeded
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors import formats
from tweedie_inverse.priors.formats.networks.plain import IRCNN_DILATIONS

X = 0.5 + 0.3 * normal((1,), (2, 1, 13, 18)).float()  # odd sides: what must be padded is
SIGMA = 0.1


def quietly(path, **settings):
    """A prior of that file, without the warnings that are not what is tested."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ti.load_prior(path, format=formats.KnownDenoiser(shape=(1, 8, 8), **settings))


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def stack(first, last, layers, width=6, norms=False, dilations=None):
    """KAIR's layout: convolutions with ReLU between, in one sequence called model."""
    parts, widths = [], [first, *[width] * (layers - 1), last]
    for index, (given, made) in enumerate(pairwise(widths)):
        d = dilations[index] if dilations else 1
        parts.append(nn.Conv2d(given, made, 3, padding=d, dilation=d))
        if norms and 0 < index < layers - 1:
            parts.append(nn.BatchNorm2d(made))
        if index < layers - 1:
            parts.append(nn.ReLU())
    module = nn.Module()
    module.model = nn.Sequential(*parts)
    return module


def saved(path, module, prefix=""):
    state = {f"{prefix}{name}": value for name, value in module.state_dict().items()}
    torch.save(state, path)
    return path


def map_of(x, sigma=SIGMA):
    return torch.full((len(x), 1, *x.shape[2:]), sigma)


@pytest.mark.parametrize(("layers", "norms", "prefix"), [(17, True, ""), (17, False, "module.")])
def test_dncnn(layers, norms, prefix, tmp_path):
    """``x - model(x)``; the level is that of the name, with a word."""
    network = seeded(lambda: stack(1, 1, layers, norms=norms))
    path = saved(tmp_path / "dncnn_25.pth", network, prefix)
    with pytest.warns(UserWarning, match=r"KnownDenoiser\(sigma=25/255\)"):
        prior = ti.load_prior(path)
    assert prior.sigma_min < 25 / 255 < prior.sigma_max < 1.01 * prior.sigma_min
    prior = quietly(path, sigma=25 / 255)
    close(prior.denoise(X, 25 / 255), X - network.model(X))
    signed = ti.load_prior(
        path, format=formats.KnownDenoiser(sigma=0.1, shape=(1, 8, 8)), value_range=(-1.0, 1.0)
    )
    close(signed.denoise(2 * X - 1, 0.2), 2 * (X - network.model(X)) - 1)
    assert signed.sigma_max == pytest.approx(0.2, rel=0.01)


def test_a_denoiser_of_one_level_says_so(tmp_path):
    path = saved(tmp_path / "net.pth", seeded(lambda: stack(1, 1, 17)))
    with pytest.raises(ValueError, match=r"KnownDenoiser\(sigma=25/255\)") as error:
        ti.load_prior(path)
    assert one_line(error)
    assert "not in the file" in str(ti.priors.formats.describe(formats.source_of(path)))
    prior = quietly(path, sigma=0.1)
    operator = ti.operators.Mask(torch.ones(1, 8, 8), noise=ti.operators.GaussianNoise(0.1))
    for call in (
        lambda: ti.solve(torch.zeros(1, 8, 8), operator, prior),
        lambda: ti.solve(torch.zeros(1, 8, 8), operator, prior, method="langevin"),
        lambda: ti.measure_denoising_error(prior, X[:, :, :8, :8].repeat(4, 1, 1, 1)),
    ):
        with pytest.raises(ValueError, match=r"was trained at one noise level, 0\.1"):
            call()
    with pytest.raises(ValueError, match=r"is one level, and sigma_max= a range"):
        quietly(path, sigma=0.1, sigma_max=0.2)
    blind = quietly(path, sigma_max=0.2)
    assert (blind.sigma_min, blind.sigma_max) == (1 / 255, 0.2)


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("kair-dncnn-15", 15), ("dncnn_50", 50), ("dncnn_sigma2_gray", 2), ("noise25", 25),
        ("gaussian_gray_denoising_sigma15", 15), ("dncnn6L", 15.3), ("dncnn17H", 51),
        ("dncnn6M", 25.5), ("ffdnet_color", None), ("dncnn3", None), ("dncnn_gray_blind", None),
        ("finetune_22k", None), ("model_2023", None),
    ],
)  # fmt: skip
def test_levels_in_names(name, level):
    from tweedie_inverse.priors.formats.denoiser_files import levels_named

    found = levels_named(name).level
    assert (found is None) == (level is None)
    assert found is None or found == pytest.approx(level / 255)


def test_blind_dncnn(tmp_path):
    network = seeded(lambda: stack(3, 3, 20))
    prior = ti.load_prior(saved(tmp_path / "dncnn_color_blind.pth", network))
    assert (prior.shape, prior.sigma_max) == ((3, 64, 64), 55 / 255)
    with pytest.warns(UserWarning, match=r"read as a blind DnCNN.*sigma_max="):
        ti.load_prior(saved(tmp_path / "net.pth", network))


def test_ffdnet_and_fdncnn(tmp_path):
    ffdnet = seeded(lambda: stack(5, 4, 4))
    prior = quietly(saved(tmp_path / "ffdnet_gray.pth", ffdnet))
    padded = F.pad(X, (0, 0, 0, 1), mode="replicate")
    half = F.pixel_unshuffle(padded, 2)
    expected = F.pixel_shuffle(ffdnet.model(torch.cat([half, map_of(half)], 1)), 2)[..., :13, :]
    close(prior.denoise(X, SIGMA), expected)
    assert (prior.sigma_min, prior.sigma_max) == (1 / 255, 75 / 255)
    with pytest.warns(UserWarning, match="clipped"):
        ti.load_prior(saved(tmp_path / "ffdnet_gray_clip.pth", ffdnet))
    fdncnn = seeded(lambda: stack(2, 1, 5))
    prior = quietly(saved(tmp_path / "fdncnn_gray.pth", fdncnn))
    close(prior.denoise(X, SIGMA), fdncnn.model(torch.cat([X, map_of(X)], 1)))
    # A grey network takes the channels of a colour image one by one, each with its level.
    colour = formats.KnownDenoiser(shape=(3, 8, 8))
    prior = ti.load_prior(tmp_path / "fdncnn_gray.pth", format=colour)
    x, levels = normal((2,), (2, 3, 9, 9)).float(), torch.tensor([0.05, 0.2])
    found = prior.denoise(x, levels)
    for image, level in enumerate(levels):
        grey = x[image][:, None]
        expected = fdncnn.model(torch.cat([grey, map_of(grey, float(level))], 1))
        close(found[image], expected[:, 0])
    three = saved(tmp_path / "dncnn_color_blind.pth", seeded(lambda: stack(3, 3, 20)))
    with pytest.raises(ValueError, match="is for images of 3 channels"):
        ti.load_prior(three, format=formats.KnownDenoiser(shape=(1, 8, 8)))


def test_other_stacks_of_convolutions_are_not_taken_in_silence(tmp_path):
    path = saved(tmp_path / "mine.pth", seeded(lambda: stack(2, 1, 5)))
    with pytest.warns(UserWarning, match=r"read as FDnCNN by the channels.*formats.Module"):
        ti.load_prior(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ti.load_prior(path, format=formats.KnownDenoiser(sigma_max=0.2))
        ti.load_prior(saved(tmp_path / "fdncnn.pth", seeded(lambda: stack(2, 1, 20, 64))))
    three = saved(tmp_path / "seven.pth", seeded(lambda: stack(2, 3, 5)))
    with pytest.raises(ValueError, match="nor any other known format"):
        ti.load_prior(three)


def test_ircnn(tmp_path):
    """25 networks: that of 2 k / 255 is for levels above 2 (k - 1) / 255."""
    networks = [seeded(lambda: stack(1, 1, 7, 2, dilations=IRCNN_DILATIONS), k) for k in range(25)]
    torch.save({str(k): net.state_dict() for k, net in enumerate(networks)}, tmp_path / "i.pth")
    prior = quietly(tmp_path / "i.pth")
    assert prior.sigma_max == pytest.approx(50 / 255)
    levels = torch.tensor([25 / 255, 26 / 255])
    found = prior.denoise(X, levels)
    for row, index in enumerate((12, 12)):
        close(found[row], (X - networks[index].model(X))[row])
    close(prior.denoise(X, 27 / 255), X - networks[13].model(X))
    one = saved(tmp_path / "ircnn_25.pth", networks[3])
    close(quietly(one, sigma=0.1).denoise(X, 0.1), X - networks[3].model(X))


def deepinv_cases():
    models = pytest.importorskip("deepinv.models")
    from deepinv.models.GSPnP import GSDRUNet

    small, settings = {"nc": (4, 4, 8, 8), "pretrained": None}, {"pretrained": None}
    return {
        "drunet_gray": (lambda: models.DRUNet(1, 1, nb=2, **small), 50),
        "drunet_deepinv_gray": (lambda: models.DRUNet(1, 1, nb=2, **small), 20),
        "GSDRUNet_gray": (lambda: GSDRUNet(1.0, 1, 1, 2, (4, 4, 8, 8)), 50),
        "deepinv_dncnn": (lambda: models.DnCNN(1, 1, 5, nf=4, **settings), None),
        "ffdnet_gray": (lambda: models.FFDNet(4, 6, 1, **settings), 75),
        "scunet_gray": (lambda: models.SCUNet(1, [1] * 7, 64, **settings), None),
        "restormer_gray_blind": (
            lambda: models.Restormer(
                1, 1, 8, (1, 1, 1, 1), 1, (1, 2, 4, 8), LayerNorm_type="WithBias", **settings
            ),
            50,
        ),
    }


@pytest.mark.parametrize(
    "name",
    ["drunet_gray", "drunet_deepinv_gray", "GSDRUNet_gray", "deepinv_dncnn", "ffdnet_gray",
     "scunet_gray", "restormer_gray_blind"],
)  # fmt: skip
def test_files_of_deepinvs_networks_equal_deepinv(name, tmp_path):
    make, largest = deepinv_cases()[name]
    network = seeded(make)
    path = saved(tmp_path / f"{name}.pth", network)
    if largest is None:
        with pytest.raises(ValueError, match="the file does not say at which"):
            ti.load_prior(path)
        prior = quietly(path, sigma_max=0.2)
    else:
        prior = ti.load_prior(path, format=formats.KnownDenoiser(shape=(1, 32, 32)))
        assert prior.sigma_max == pytest.approx(largest / 255)
    x = 0.5 + 0.3 * normal((1,), (2, 1, 32, 40)).float()
    with torch.no_grad():
        close(prior.denoise(x, SIGMA), network(x, SIGMA).detach())
    odd = 0.5 + 0.3 * normal((3,), (1, 1, 65, 67)).float()
    assert prior.denoise(odd, SIGMA).isfinite().all()


def test_networks_of_real_noise_are_refused(tmp_path):
    make, _ = deepinv_cases()["scunet_gray"]
    path = saved(tmp_path / "scunet_color_real_psnr.pth", seeded(make))
    with pytest.raises(ValueError, match="the noise of real cameras"):
        ti.load_prior(path)


def test_scico(tmp_path):
    """flax's names and order of axes, periodic borders."""
    state, kernels = {}, []
    for name, given, made in (("conv_start", 1, 4), ("0", 4, 4), ("1", 4, 4), ("conv_end", 4, 1)):
        kernel = normal((3, given, made), (3, 3, given, made)).float() / 4
        kernels.append(kernel.permute(3, 2, 0, 1))
        if name.startswith("conv"):
            state[f"params/{name}/kernel"] = kernel
            continue
        block = f"ConvBNBlock_{name}"
        state[f"params/{block}/Conv_0/kernel"] = kernel
        state[f"params/{block}/BatchNorm_0/scale"] = 1 + torch.rand(4, generator=torch.Generator())
        state[f"params/{block}/BatchNorm_0/bias"] = normal((4, made), (4,)).float()
        state[f"batch_stats/{block}/BatchNorm_0/mean"] = normal((5, made), (4,)).float()
        state[f"batch_stats/{block}/BatchNorm_0/var"] = 1 + normal((6, made), (4,)).float() ** 2
    torch.save(state, tmp_path / "dncnn6M.pt")
    h = X
    for index, kernel in enumerate(kernels):
        h = F.conv2d(F.pad(h, (1, 1, 1, 1), mode="circular"), kernel)
        if index in (1, 2):
            block = f"ConvBNBlock_{index - 1}"
            scale, bias = (state[f"params/{block}/BatchNorm_0/{k}"] for k in ("scale", "bias"))
            mean, var = (state[f"batch_stats/{block}/BatchNorm_0/{k}"] for k in ("mean", "var"))
            h = F.batch_norm(h, mean, var, scale, bias)
        h = h.relu() if index < 3 else h
    prior = quietly(tmp_path / "dncnn6M.pt")
    close(prior.denoise(X, 0.1), X - h)
    assert prior.sigma_min < 0.1 < prior.sigma_max


def test_incomplete_files_are_refused(tmp_path):
    models = pytest.importorskip("deepinv.models")
    network = seeded(lambda: models.DRUNet(1, 1, nc=(4, 4, 8, 8), nb=2, pretrained=None))
    state = network.state_dict()
    del state["m_up2.1.res.0.weight"]
    torch.save(state, tmp_path / "drunet_gray.pth")
    with pytest.raises(ValueError, match=r"are missing.*m_up2.1.res.0.weight"):
        ti.load_prior(tmp_path / "drunet_gray.pth")
    del state["m_body.0.res.0.weight"]
    torch.save(state, tmp_path / "drunet_gray.pth")
    with pytest.raises(ValueError, match=r"m_body.0.res.0.weight' is missing"):
        ti.load_prior(tmp_path / "drunet_gray.pth")
    torch.save({"layer.0.weight": torch.ones(3, 3)}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="no published denoiser has these weights"):
        ti.load_prior(tmp_path / "x.pt", format="known-denoiser")
