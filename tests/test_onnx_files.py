"""Denoisers in ONNX files: the same numbers as the graph says, whatever its inputs look like."""

import pytest
import torch

import tweedie_inverse as ti
from tests.networks import one_line
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors import formats
from tweedie_inverse.solving.origin import checksum

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

X = normal((1,), (3, 1, 8, 8)).float()
SIGMAS = torch.tensor([0.2, 0.5, 1.0])


def save(path, image, label=None, *, kind=None, output=None, extra=False):
    """``x * exp(-label)``, or ``x / 2`` of a network that is told nothing."""
    helper, proto = onnx.helper, onnx.TensorProto
    kind = proto.FLOAT if kind is None else kind
    inputs, nodes = [helper.make_tensor_value_info("noisy", proto.FLOAT, image)], []
    if label is None:
        half = helper.make_tensor("half", proto.FLOAT, [], [0.5])
        nodes.append(helper.make_node("Constant", [], ["factor"], value=half))
    else:
        inputs.append(helper.make_tensor_value_info("level", kind, label))
        nodes.append(helper.make_node("Cast", ["level"], ["number"], to=proto.FLOAT))
        nodes.append(helper.make_node("Neg", ["number"], ["minus"]))
        nodes.append(helper.make_node("Exp", ["minus"], ["flat"]))
        axes = {0: None, 1: [1, 2, 3], 2: [2, 3], 4: None}[len(label)]
        if axes is None:
            nodes.append(helper.make_node("Identity", ["flat"], ["factor"]))
        else:
            values = helper.make_tensor("axes", proto.INT64, [len(axes)], axes)
            nodes.append(helper.make_node("Constant", [], ["axes"], value=values))
            nodes.append(helper.make_node("Unsqueeze", ["flat", "axes"], ["factor"]))
    if extra:
        inputs.append(helper.make_tensor_value_info("prompt", proto.FLOAT, ["n", 7]))
    nodes.append(helper.make_node("Mul", ["noisy", "factor"], ["clean"]))
    result = helper.make_tensor_value_info("clean", proto.FLOAT, output or image)
    graph = helper.make_graph(nodes, "denoiser", inputs, [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


OPEN = ["n", 1, "h", "w"]


@pytest.mark.parametrize(
    ("image", "label"),
    [
        (OPEN, []), (OPEN, ["n"]), (OPEN, ["n", 1]), (OPEN, ["n", 1, "h", "w"]),
        (OPEN, ["n", 1, 1, 1]), (["n", 1, 8, 8], ["n"]), ([1, 1, 8, 8], [1]), ([1, 1, 8, 8], []),
        ([2, 1, 8, 8], [2]), ([2, 1, 8, 8], []), ([1, 1, 8, 8], [1, 1, 8, 8]),
    ],
)  # fmt: skip
def test_inputs_of_every_shape(image, label, tmp_path):
    path = save(tmp_path / "net.onnx", image, label)
    settings = formats.ONNX(shape=(1, 8, 8), sigma_max=2.0)
    prior = ti.load_prior(path, format=settings)
    expected = X * torch.exp(-SIGMAS).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(prior.denoise(X, SIGMAS), expected)
    torch.testing.assert_close(prior.denoise(X[:1], 0.5), X[:1] * torch.exp(torch.tensor(-0.5)))
    assert prior.fully_convolutional == (image == OPEN)
    if image == OPEN:
        large = normal((2,), (1, 1, 9, 12)).float()
        torch.testing.assert_close(prior.denoise(large, 0.1), large * torch.exp(torch.tensor(-0.1)))


def test_it_solves_and_has_no_gradient(tmp_path):
    path = save(tmp_path / "net.onnx", [1, 1, 8, 8], ["n"])
    prior = ti.load_prior(path, format=formats.ONNX(sigma_max=2.0, network_range=(-1.0, 1.0)))
    assert (prior.shape, prior.sigma_max) == ((1, 8, 8), 1.0)
    signed = 2 * X - 1
    torch.testing.assert_close(prior.denoise(X, 0.25), (signed * 0.60653066 + 1) / 2)
    operator = ti.operators.Mask(torch.ones(1, 8, 8), noise=ti.operators.GaussianNoise(0.1))
    for method in ("decoupled", "langevin"):
        run = ti.iterate(X[0], operator, prior, method=method, num_samples=2, steps=4)
        assert all(state.x.isfinite().all() for state in run)
    x = X.clone().requires_grad_()
    with pytest.raises(RuntimeError, match=r"has no gradient.*formats\.fill"):
        prior.denoise(x, 0.25)
    again = ti.load_prior(path, format=formats.ONNX(sigma_max=2.0, network_range=(-1.0, 1.0)))
    path = save(tmp_path / "net.onnx", [1, 1, 8, 8])
    other = ti.load_prior(path, format=formats.ONNX(sigma_max=2.0, network_range=(-1.0, 1.0)))
    assert checksum(prior) == checksum(again) != checksum(other)


def test_whole_timesteps_and_blind_networks(tmp_path):
    table = ti.schedules.vp_linear_table(timesteps=10, beta_max=0.3)
    path = save(tmp_path / "net.onnx", OPEN, ["n"], kind=onnx.TensorProto.INT64)
    settings = formats.ONNX(shape=(1, 8, 8), parameterization="epsilon", timesteps=table)
    prior = ti.load_prior(path, format=settings)
    sigma = float(table[6])
    seen = X / (1 + sigma**2) ** 0.5
    expected = X - sigma * seen * torch.exp(torch.tensor(-6.0))
    torch.testing.assert_close(prior.denoise(X, sigma), expected)
    blind = ti.load_prior(
        save(tmp_path / "blind.onnx", OPEN), format=formats.ONNX(shape=(1, 8, 8), sigma_max=0.2)
    )
    torch.testing.assert_close(blind.denoise(X, 0.1), X / 2)


def test_what_the_graph_does_not_say_is_asked(tmp_path):
    path = save(tmp_path / "net.onnx", OPEN, ["n"])
    for settings, message in (
        (None, r"does not say on which noise levels.*ONNX\(sigma_max="),
        (formats.ONNX(sigma_max=1.0), r"give format=formats.ONNX\(shape="),
        (
            formats.ONNX(sigma_max=1.0, shape=(3, 8, 8)),
            r"takes images of noisy \(any, 1, any, any\)",
        ),
        (
            formats.ONNX(sigma_max=1.0, image_input="x"),
            "no such image_input 'x'; choose from noisy",
        ),
    ):
        with pytest.raises(ValueError, match=message) as error:
            ti.load_prior(path, format=settings)
        assert one_line(error)
    prompted = save(tmp_path / "prompt.onnx", OPEN, ["n"], extra=True)
    with pytest.raises(ValueError, match="needs more than an image and a noise label"):
        ti.load_prior(prompted, format=formats.ONNX(sigma_max=1.0, shape=(1, 8, 8)))
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x08nothing")
    with pytest.raises(ValueError, match=r"broken.onnx cannot be run by onnxruntime"):
        ti.load_prior(tmp_path / "broken.onnx", format=formats.ONNX(sigma_max=1.0))
    described = ti.priors.zoo.inspect_prior(path)
    assert described["label"] == "level (any)"
