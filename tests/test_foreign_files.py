"""Weights of JAX, MATLAB and NumPy: read without running anything, and filled into torch."""

import io
import json
import zipfile

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tweedie_inverse as ti
from tests.networks import Malicious, one_line, seeded
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors import formats
from tweedie_inverse.priors.formats.reading.foreign import kind_of, read


def numbers(*shape, key=1):
    return normal((key, *shape), shape).numpy().astype(np.float32)


class Patches(nn.Module):
    """Layers in the order of an Equinox model."""

    def __init__(self):
        super().__init__()
        self.into = nn.Conv2d(2, 6, 4, stride=4)
        self.out = nn.ConvTranspose2d(6, 1, 4, stride=4)
        self.mixer = nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 3))
        self.norm = nn.LayerNorm((6, 3))

    def forward(self, x):
        return self.out(self.into(x))


# What eqx.tree_serialise_leaves writes of it: its transposed kernels are (out, in, h, w), biases of
# convolutions (out, 1, 1), and floats of the model are saved, too.
LEAVES = [
    (6, 2, 4, 4),
    (6, 1, 1),
    (1, 6, 4, 4),
    (1, 1, 1),
    (5, 3),
    (5,),
    (3, 5),
    (3,),
    (6, 3),
    (6, 3),
]


def write_eqx(path, arrays, header=None):
    with path.open("wb") as file:
        if header is not None:
            file.write((json.dumps(header) + "\n").encode())
        for array in arrays:
            np.save(file, array)
    return path


@pytest.mark.parametrize("header", [None, {"hidden": 6}])
def test_equinox(header, tmp_path):
    arrays = [numbers(*shape, key=k) for k, shape in enumerate(LEAVES)]
    path = write_eqx(tmp_path / "net.eqx", [*arrays, np.asarray(10.0)], header)
    assert kind_of(path) == "equinox"
    assert list(read(path)) == [str(k) for k in range(11)]
    network = formats.fill(seeded(Patches), path)
    x = torch.from_numpy(numbers(1, 2, 8, 8))
    # Equinox: a convolution of the input with zeros between its pixels, kernel not flipped.
    h = F.conv2d(x, torch.from_numpy(arrays[0]), torch.from_numpy(arrays[1]).flatten(), stride=4)
    spread = torch.zeros(1, 6, 5, 5)
    spread[..., ::4, ::4] = h
    kernel, bias = torch.from_numpy(arrays[2]), torch.from_numpy(arrays[3]).flatten()
    expected = F.conv2d(F.pad(spread, (3, 3, 3, 3)), kernel, bias)
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(network.mixer[2].weight, torch.from_numpy(arrays[6]))


def test_equinox_that_does_not_fit(tmp_path):
    arrays = [numbers(*shape, key=k) for k, shape in enumerate(LEAVES)]
    network = seeded(Patches)
    before = network.norm.weight.clone()
    for wrong, message in (
        (arrays[:-1], r"9 arrays.*10 parameters.*first at 9.*nothing for norm.bias"),
        ([*arrays, numbers(2)], r"11 arrays.*array 10: \(2,\) for nothing"),
        ([*arrays[:6], arrays[7], arrays[6], *arrays[8:]], r"array 6: \(3,\) for mixer.2.weight"),
        ([*arrays[:9], np.full((6, 3), np.nan, np.float32)], "NaN or infinity in norm.bias"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            formats.fill(network, write_eqx(tmp_path / "net.eqx", wrong))
        assert one_line(error)
    assert torch.equal(network.norm.weight, before)  # nothing is half filled


class Named(nn.Module):
    """Layers with flax's names."""

    def __init__(self):
        super().__init__()
        self.Conv_0 = nn.Conv2d(1, 4, 3, padding=1)
        self.BatchNorm_0 = nn.BatchNorm2d(4)
        self.Dense_0 = nn.Linear(4, 3)
        self.Embed_0 = nn.Embedding(7, 4)


FLAX = {
    "params": {
        "Conv_0": {"kernel": numbers(3, 3, 1, 4), "bias": numbers(4)},
        "BatchNorm_0": {"scale": numbers(4, key=2), "bias": numbers(4, key=3)},
        "Dense_0": {"kernel": numbers(4, 3), "bias": numbers(3)},
        "Embed_0": {"embedding": numbers(7, 4)},
    },
    "batch_stats": {"BatchNorm_0": {"mean": numbers(4, key=4), "var": numbers(4, key=5) ** 2}},
}


def flax_bytes(tree):
    msgpack = pytest.importorskip("msgpack")

    def packed(value):
        shape, name = value.shape, "bfloat16" if value.dtype == np.uint16 else value.dtype.name
        return msgpack.ExtType(1, msgpack.packb((shape, name, value.tobytes()), use_bin_type=True))

    return msgpack.packb(tree, default=packed, strict_types=True, use_bin_type=True)


def test_flax(tmp_path):
    path = tmp_path / "net.mpk"
    path.write_bytes(flax_bytes({**FLAX, "step": 3, "note": "text"}))
    network = formats.fill(seeded(Named), path)
    x = torch.from_numpy(numbers(2, 1, 5, 5))
    kernel = FLAX["params"]["Conv_0"]["kernel"]
    by_hand = sum(
        np.einsum("bchw,cd->bdhw", np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
                  [:, :, i : i + 5, j : j + 5], kernel[i, j])
        for i in range(3) for j in range(3)
    ) + numbers(4)[:, None, None]  # fmt: skip
    torch.testing.assert_close(network.Conv_0(x).detach(), torch.from_numpy(by_hand))
    v = torch.from_numpy(numbers(2, 4))
    dense = v @ torch.from_numpy(numbers(4, 3)) + torch.from_numpy(numbers(3))
    torch.testing.assert_close(network.Dense_0(v).detach(), dense)
    assert torch.equal(network.BatchNorm_0.running_var, torch.from_numpy(numbers(4, key=5) ** 2))
    # Large arrays are in pieces, and numbers of two bytes are bfloat16.
    pieces = {"0": numbers(4), "1": numbers(2)}
    tree = {"w": {"__msgpack_chunked_array__": True, "shape": {"0": 2, "1": 3}, "chunks": pieces},
            "half": np.array([0x3F80, 0xC000], np.uint16)}  # fmt: skip
    path.write_bytes(flax_bytes(tree))
    found = read(path)
    assert torch.equal(found["w"].flatten(), torch.from_numpy(np.concatenate([*pieces.values()])))
    assert found["half"].tolist() == [1.0, -2.0]
    assert found["half"].dtype == torch.bfloat16


def test_names_that_differ(tmp_path):
    path = tmp_path / "net.npz"
    np.savez(path, **{"first/kernel": numbers(3, 3, 1, 2), "first/bias": numbers(2), "steps": 3})
    layer = seeded(lambda: nn.Sequential(nn.Conv2d(1, 2, 3)))
    with pytest.raises(ValueError, match=r"no weights for 0.weight, 0.bias.*rename=.*first/kernel"):
        formats.fill(layer, path)
    names = {"first/kernel": "0.weight", "first/bias": "0.bias", "steps": None}
    formats.fill(layer, path, names)
    expected = torch.from_numpy(numbers(3, 3, 1, 2)).permute(3, 2, 0, 1)
    assert torch.equal(layer[0].weight, expected)
    with pytest.raises(ValueError, match=r"module has not: steps"):
        formats.fill(
            layer, path, lambda name: name.replace("first/", "0.").replace("kernel", "weight")
        )
    wrong = seeded(lambda: nn.Sequential(nn.Conv2d(1, 3, 3)))
    with pytest.raises(ValueError, match=r"0.weight \(2, 1, 3, 3\) instead of \(3, 1, 3, 3\)"):
        formats.fill(wrong, path, names)


def two_layers():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 3))


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_matconvnet(version, tmp_path):
    """Layers in a cell, filters (height, width, in, out); MATLAB drops a last axis of one."""
    path, kernels = tmp_path / "net.mat", [numbers(3, 3, 1, 4), numbers(3, 3, 4, 1)]
    weights = [(kernels[0], numbers(4, 1)), (kernels[1][..., 0], numbers(1, 1))]
    if version == "5":
        from scipy.io import savemat

        layers = np.empty((1, 3), object)
        for index, kind in enumerate(("conv", "relu", "conv")):
            layers[0, index] = {"type": kind}
            if kind == "conv":
                pair = np.empty((1, 2), object)
                pair[0, 0], pair[0, 1] = weights[index // 2]
                layers[0, index]["weights"] = pair
        savemat(path, {"net": {"layers": layers}})
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w", userblock_size=512) as file:
            references = []
            for index, pair in enumerate(weights):
                layer = file.create_group(f"#refs#/layer{index}")
                own = []
                for name, array in zip("wb", pair, strict=True):
                    own.append(file.create_dataset(f"#refs#/{name}{index}", data=array.T).ref)
                cell = layer.create_dataset("weights", (2, 1), h5py.ref_dtype)
                cell[:, 0] = own
                references.append(layer.ref)
            file.create_dataset("net/layers", (2, 1), h5py.ref_dtype)[:, 0] = references
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file")
    assert kind_of(path) == "matlab"
    network = formats.fill(seeded(two_layers), path)
    for layer, kernel in zip((network[0], network[2]), kernels, strict=True):
        assert torch.equal(layer.weight, torch.from_numpy(kernel).permute(3, 2, 0, 1))
    assert torch.equal(network[0].bias, torch.from_numpy(numbers(4, 1)).reshape(-1))


def zipped(path, **entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(array, **settings):
    file = io.BytesIO()
    np.save(file, array, **settings)
    return file.getvalue()


def test_hostile_files(tmp_path):
    header = io.BytesIO()
    claim = {"descr": "<f4", "fortran_order": False, "shape": (10**12, 36)}
    np.lib.format.write_array_header_1_0(header, claim)
    huge = header.getvalue() + bytes(64)
    objects = npy(np.array([Malicious()], dtype=object), allow_pickle=True)
    (tmp_path / "objects.npy").write_bytes(objects)
    (tmp_path / "cut.eqx").write_bytes(npy(numbers(5)) + npy(numbers(9))[:100])
    (tmp_path / "cut.mpk").write_bytes(b"\x85\xa6params")
    (tmp_path / "cut.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(80))
    (tmp_path / "huge.npy").write_bytes(huge)
    (tmp_path / "huge.eqx").write_bytes(npy(numbers(5)) + huge)
    zipped(tmp_path / "bomb.npz", a=npy(np.zeros(40_000_000)))
    zipped(tmp_path / "objects.npz", a=objects)
    for name, message in (
        ("objects.npy", "Python objects"), ("objects.npz", "Python objects"),
        ("cut.eqx", "cannot be read as a file of equinox"), ("cut.mpk", "a file of flax"),
        ("cut.mat", "a file of matlab"), ("huge.npy", "header claims"),
        ("huge.eqx", "header claims"),
        ("bomb.npz", "unpack to"),
    ):  # fmt: skip
        if name == "cut.mpk":
            pytest.importorskip("msgpack")
        with pytest.raises(ValueError, match=message) as error:
            read(tmp_path / name)
        assert one_line(error)
    assert not (tmp_path / "should-not-exist").exists()


@pytest.mark.parametrize(
    ("name", "content", "kind", "way"),
    [
        ("m.h5", b"\x89HDF\r\n\x1a\n", "keras", "formats.fill"),
        ("m.keras", b"PK\x03\x04", "keras", "formats.fill"),
        ("model.ckpt-3.index", b"\x00", "tensorflow checkpoint", "tf.train.load_checkpoint"),
        ("model.ckpt-3.data-00000-of-00001", b"\x00", "tensorflow checkpoint", "formats.fill"),
        ("model.bin", b"GGUF\x03", "gguf", "no denoiser"),
        ("m.tflite", b"\x1c\x00\x00\x00TFL3", "tensorflow lite", "ONNX"),
    ],
)
def test_what_is_not_read_is_named(name, content, kind, way, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert kind_of(tmp_path / name) == kind
    for call in (read, ti.load_prior):
        with pytest.raises(ValueError, match=f"a file of {kind}.*{way}") as error:
            call(tmp_path / name)
        assert one_line(error)


def test_foreign_weights_of_a_known_denoiser(tmp_path):
    """A denoiser's file is known by its keys, whatever library wrote it."""
    tree = {"params": {"conv_start": {"kernel": numbers(3, 3, 2, 4)},
                       "conv_end": {"kernel": numbers(3, 3, 4, 2)}}}  # fmt: skip
    path = tmp_path / "dncnn.mpk"
    path.write_bytes(flax_bytes(tree))
    assert ti.load_prior(path).sigma_max == 0.2
    np.savez(tmp_path / "dncnn.npz", **{f"params/{k}/kernel": v["kernel"]
                                        for k, v in tree["params"].items()})  # fmt: skip
    x = torch.from_numpy(numbers(1, 1, 64, 64))
    found = [ti.load_prior(tmp_path / f"dncnn.{end}").denoise(x, 0.1) for end in ("mpk", "npz")]
    assert torch.equal(*found)
    np.savez(tmp_path / "other.npz", weights=numbers(3))
    with pytest.raises(ValueError, match=r"formats\.fill"):
        ti.load_prior(tmp_path / "other.npz")
