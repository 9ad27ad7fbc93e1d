"""Files made to fill the memory, and damaged ones: refused before anything is built."""

import json
import struct
import zipfile
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import tweedie_inverse as ti
from tests.networks import one_line
from tweedie_inverse.priors import formats, zoo
from tweedie_inverse.priors.formats.networks.adm import ADMUNet, Architecture
from tweedie_inverse.priors.formats.own_files import tensors_of

SHIPPED = zoo.WEIGHTS_FOLDER / "digits-32.safetensors"


@pytest.fixture(scope="module")
def shipped():
    """Tensors and header of a prior file of this package."""
    with safe_open(SHIPPED, "pt") as file:
        return load_file(SHIPPED), json.loads(file.metadata()["prior"])


def refused(path, message, **settings):
    with pytest.raises(ValueError, match=message) as e:
        ti.load_prior(path, **settings)
    assert one_line(e)


@pytest.mark.parametrize(
    "absurd",
    [
        {"blocks": [100_000] * 3},
        {"blocks": [10**12, 1, 1]},
        {"widths": [10**6] * 3},
        {"widths": [32, 64, 4096]},
        {"widths": [8] * 50_000, "blocks": [1] * 50_000},
        {"widths": [8], "blocks": [-1]},
        {"widths": "wide"},
        {"blocks": [1.5, 1, 1]},
        {"classes": 10**12},
        {"shape": [10**9, 32, 32]},
    ],
)
def test_headers_ask_for_no_more_than_the_file_has(tmp_path, shipped, absurd):
    tensors, header = shipped
    for there in (tensors, {"network.first.weight": torch.ones(8, 1, 3, 3)}):
        save_file(there, tmp_path / "a.safetensors", {"prior": json.dumps({**header, **absurd})})
        refused(tmp_path / "a.safetensors", "the header describes another network than the file")


@pytest.mark.parametrize("name", ["centre", "offset", "scale", "sigma_max"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_numbers_in_a_header_are_refused(tmp_path, shipped, name, value):
    tensors, header = shipped
    text = json.dumps({**header, name: value})
    save_file(tensors, tmp_path / "a.safetensors", {"prior": text})
    refused(tmp_path / "a.safetensors", f"the header is damaged, it says {name}")


@pytest.mark.parametrize(
    "name",
    ["error.sigmas", "error.log_variance", "error.gain", "error.mixing", "error.local.contrast",
     "error.local.log_variance", "network.last.weight"],
)  # fmt: skip
def test_broken_numbers_in_tables_and_weights_are_refused(tmp_path, shipped, name):
    tensors, header = shipped
    broken = tensors[name].clone()
    broken.view(-1)[-1] = torch.nan
    save_file({**tensors, name: broken}, tmp_path / "a.safetensors", {"prior": json.dumps(header)})
    last = name.removeprefix("network.")
    refused(tmp_path / "a.safetensors", rf"1 numbers in 1 of .* NaN or infinite, first in {last}")


@pytest.mark.parametrize("text", ["[1]", "{", "[" * 100_000, "3"])
def test_headers_that_hold_no_settings_are_told(tmp_path, text):
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors", {"prior": text})
    refused(tmp_path / "a.safetensors", "its header (is no JSON|holds no settings)")


def test_a_header_that_is_longer_than_its_file(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 10**12) + SHIPPED.read_bytes()[8:1000])
    refused(path, "truncated or not a safetensors file")


def test_archives_that_unpack_to_much_more_are_refused(tmp_path):
    torch.save({"model": {"a.weight": torch.zeros(2000, 1000)}}, tmp_path / "a.pt")
    ti_error = "not a prior file"
    refused(tmp_path / "a.pt", ti_error)  # as it is, it is read
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    refused(tmp_path / "bomb.pt", r"refused .* bytes that unpack to 8,0.*made to fill the memory")


SMALL = Architecture(1, 1, 32, (1, 2), 1, (), True, "convolution", classes=5)
ADM = formats.ADM(image_size=16, class_label=0, heads=4)


def test_tensors_that_claim_more_than_they_have_are_refused(tmp_path):
    with torch.random.fork_rng(devices=[]):
        state = ADMUNet(SMALL).state_dict()
    state["label_emb.weight"] = torch.ones(1).expand(10**9, 128)
    torch.save(state, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", r"label_emb.weight claims 128,000,000,000 numbers", format=ADM)
    del state["label_emb.weight"]
    state["output_blocks.1000000000.0.weight"] = torch.ones(2, 2)
    torch.save(state, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "numbered with gaps", format=ADM)


def test_containers_without_end_are_walked_once(tmp_path):
    circle: list = []
    circle.append(circle)
    shared = {"w": torch.ones(2, 2)}
    for _ in range(40):
        shared = {"a": shared, "b": shared}
    deep: object = {"w": torch.ones(2, 2)}
    for _ in range(200):
        deep = [deep]
    for content in ({"model": circle, "ema": circle}, shared, {"ema": deep}):
        torch.save(content, tmp_path / "a.pt", pickle_protocol=2)
        refused(tmp_path / "a.pt", "not a prior file of this package")


def test_large_gains_of_a_file_of_ours_are_no_infinities():
    """A network that has hardly begun has gains of millions, which half precision cannot hold."""
    error = ti.load_prior("digits-32").error
    stored = tensors_of(torch.nn.Identity(), replace(error, gain=1e7 * error.gain))["error.gain"]
    torch.testing.assert_close(stored.double(), 1e7 * error.gain, rtol=1e-6, atol=0)
    assert tensors_of(torch.nn.Identity(), error)["error.gain"].dtype == torch.float16
