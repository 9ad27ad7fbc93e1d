"""Images of one's own: what is found in a folder, what is refused, what is held out."""

import json

import numpy as np
import pytest
import torch

from tests.data_files import dicom_slice
from tests.seeds import salted
from tweedie_inverse.datasets.own.arrays import Array, TorchDataset
from tweedie_inverse.datasets.own.cache import Cache
from tweedie_inverse.datasets.own.facts import Facts, pooled, quantiles_of
from tweedie_inverse.datasets.own.folder import Folder, known_facts
from tweedie_inverse.datasets.own.images import OwnImages
from tweedie_inverse.datasets.own.preparation import Preparation
from tweedie_inverse.datasets.own.split import split
from tweedie_inverse.datasets.own.value_range import find_range

pil = pytest.importorskip("PIL.Image")


def numpy_generator(*names):
    return np.random.default_rng([salted(0), len(names[0]), *names[1:]])


SMALL = Preparation(size=8, seed=salted(3))


def pictures(folder, count=40, size=(12, 16), colour=False, first=0):
    """PNGs of 8 bits, each of random pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(first, first + count):
        shape = (*size, 3) if colour else size
        pixels = numpy_generator("pictures", k).integers(0, 256, shape, dtype=np.uint8)
        pil.fromarray(pixels).save(folder / f"{k:03d}.png")
    return folder


def own(folder, preparation=SMALL, **settings):
    return OwnImages(Folder(folder, **settings), preparation)


def test_crops_are_parts_of_the_files_at_their_own_values(tmp_path):
    images = own(pictures(tmp_path))
    files = [np.array(pil.open(path)) / 255 for path in sorted(tmp_path.glob("*.png"))]
    windows = np.concatenate(
        [np.lib.stride_tricks.sliding_window_view(f, (8, 8)).reshape(-1, 64) for f in files]
    )
    for crop in (*images.images(range(4)), *images.held_out(3)):
        assert np.abs(windows - crop.numpy().reshape(-1)).max(1).min() < 1e-6


def test_every_image_is_seen_once_before_one_is_seen_again(tmp_path):
    images = own(pictures(tmp_path, size=(8, 8)))
    first, second = (images.images(range(k, k + images.trained)).flatten(1) for k in (0, 24))
    assert images.trained == 24
    assert images.held == 16
    assert len(torch.unique(first, dim=0)) == len(torch.unique(second, dim=0)) == 24
    assert not torch.equal(first, second)  # in another order
    seen = {tuple(row.tolist()) for row in first}
    assert not seen & {tuple(row.tolist()) for row in images.held_out(16).flatten(1)}


def test_the_same_seed_gives_the_same_crops_wherever_the_files_are(tmp_path):
    one, other = own(pictures(tmp_path / "a")), own(pictures(tmp_path / "b"))
    assert torch.equal(one.images([0, 77]), other.images([0, 77]))
    assert torch.equal(one.images([77]), one.images([0, 77])[1:])
    assert torch.equal(one.held_out(5), other.held_out(5))
    assert one.checksum == other.checksum
    again = own(tmp_path / "a", SMALL._replace(seed=SMALL.seed + 1))
    assert not torch.equal(one.images([0]), again.images([0]))


@pytest.mark.parametrize("change", ["added", "altered", "renamed", "prepared"])
def test_the_checksum_notices(change, tmp_path):
    before = own(pictures(tmp_path)).checksum
    preparation = SMALL
    if change == "added":
        pictures(tmp_path, 1, first=90)
    elif change == "altered":
        pil.fromarray(np.eye(12, 16, dtype=np.uint8)).save(tmp_path / "003.png")
    elif change == "renamed":
        (tmp_path / "003.png").rename(tmp_path / "x.png")
    else:
        preparation = SMALL._replace(resize=20)
    assert own(tmp_path, preparation).checksum != before


def test_an_index_saves_reading_and_nothing_else(tmp_path, monkeypatch):
    first = own(pictures(tmp_path / "a"))
    first.write_index(tmp_path / "images.json")
    rows = json.loads((tmp_path / "images.json").read_text())["files"]
    assert sum(row["held_out"] for row in rows) == first.held
    known = known_facts(tmp_path / "images.json")
    pil.fromarray(np.eye(12, 16, dtype=np.uint8)).save(tmp_path / "a" / "003.png")
    read = []
    from tweedie_inverse.datasets.own import folder as module

    monkeypatch.setattr(
        module, "read", lambda path, r=module.read: read.append(path.name) or r(path)
    )
    again = Folder(tmp_path / "a", known=known)
    assert read == ["003.png"]
    assert OwnImages(again, SMALL).checksum == own(tmp_path / "a").checksum
    (tmp_path / "images.json").write_text("{")
    assert known_facts(tmp_path / "images.json") == {}


def test_odd_files_are_named_and_left_out(tmp_path):
    pictures(tmp_path)
    (tmp_path / "README.md").write_text("not an image")
    (tmp_path / ".hidden").write_text("passed over")
    (tmp_path / "cut.png").write_bytes((tmp_path / "000.png").read_bytes()[:60])
    pil.fromarray(np.zeros((12, 16, 4), np.uint8)).save(tmp_path / "opacity.png")
    pil.fromarray(np.zeros((12, 16), np.uint8)).save(tmp_path / "black.png")
    pil.fromarray(np.eye(5, dtype=np.uint8)).save(tmp_path / "tiny.png")
    np.save(tmp_path / "nan.npy", np.full((12, 16), np.nan))
    np.save(tmp_path / "last.npy", np.ones((12, 16, 3)))
    np.save(tmp_path / "complex.npy", np.ones((12, 16), complex))
    images = own(tmp_path)
    assert images.trained + images.held == 40
    reasons = dict(images._unused())
    assert len(reasons) == 8
    for name, reason in {
        "README.md": "names no kind of file",
        "cut.png": "damaged",
        "opacity.png": "opacity",
        "black.png": "one value everywhere",
        "tiny.png": "5x5, smaller than the crops",
        "nan.npy": "NaN",
        "last.npy": "channels last",
        "complex.npy": "complex",
    }.items():
        assert reason in reasons[name], name
    (line,) = [line for line in images.statement() if line.startswith("left out")]
    assert "8 files" in line
    assert "and 3 more" in line


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "holds no files"),
        (lambda folder: (folder / "a.txt").write_text("x"), "none of the 1 files"),
        (lambda folder: pictures(folder, 1), "1 image with room for 2 crops .* is too few"),
        (lambda folder: pictures(folder, 20, size=(8, 8)), "20 images with room .* too few"),
        (lambda folder: pictures(folder, size=(5, 7)), r"--resize 8 \(resize=8\)"),
        (
            lambda folder: [pictures(folder), pictures(folder, 2, colour=True, first=90)],
            "40 files are grey and 2 in colour. Say --colours grey",
        ),
    ],
)
def test_a_folder_that_cannot_be_trained_on_is_refused(make, message, tmp_path):
    make(tmp_path)
    with pytest.raises(ValueError, match=message):
        own(tmp_path)


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        Folder(tmp_path / "nowhere")
    (tmp_path / "a.png").touch()
    with pytest.raises(ValueError, match="is a file"):
        Folder(tmp_path / "a.png")


def test_sizes_and_colours_are_made_one(tmp_path):
    pictures(tmp_path, 20, size=(6, 30))
    pictures(tmp_path, 20, size=(40, 24), first=20, colour=True)
    with pytest.raises(ValueError, match="grey and 20 in colour"):
        own(tmp_path, SMALL._replace(resize=10))
    grey = own(tmp_path, SMALL._replace(resize=10, colours="grey"))
    assert grey.shape == (1, 8, 8)
    assert "40 grey images in the folder" in grey.statement()[0]
    assert "10x50" in grey.statement()[0]
    assert grey.images(range(30)).shape == (30, 1, 8, 8)
    colour = own(tmp_path, SMALL._replace(resize=10, colours="colour")).images(range(24))
    equal = (colour[:, 0] == colour[:, 1]).flatten(1).all(1)
    assert 0 < int(equal.sum()) < 24  # those that were grey


def test_crops_that_show_little_are_said(tmp_path):
    images = own(pictures(tmp_path, 2, size=(90, 90)))
    assert "a crop shows 1/127 of an image" in images.statement()[3]
    assert images.larger
    assert (images.trained, images.held) == (1, 1)


def test_flips_and_rotations_are_asked_for(tmp_path):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for k in range(40):
        pil.fromarray(pixels + k).save(tmp_path / f"{k}.png")

    def corners(**settings):
        crops = own(tmp_path, SMALL._replace(**settings)).images(range(24))[:, 0]
        rising = crops[:, :1, :1] < crops[:, :1, 7:]
        upright = crops[:, :1, :1] < crops[:, 7:, :1]
        return rising.float().mean(), upright.float().mean()

    assert corners() == (1, 1)
    rising, upright = corners(flips=True)
    assert 0 < rising < 1
    assert upright == 1
    assert all(0 < share < 1 for share in corners(rotations=True))


def test_slices_of_a_volume_stay_together(tmp_path):
    for k in range(24):
        stack = numpy_generator("stack", k).random((5, 10, 10)).astype(np.float32)
        stack[0] = 0  # an empty slice
        np.save(tmp_path / f"{k}.npy", stack)
    images = own(tmp_path)
    assert (images.trained, images.held) == (80, 16)
    assert {number for number, _ in images._held_out}.isdisjoint(n for n, _ in images._trained)
    assert "24 slices of one value" in " ".join(images.statement())
    # The held-out crops of a few are from different volumes.
    assert len(torch.unique(images.held_out(4).flatten(1), dim=0)) == 4


def test_files_of_a_folder_stay_together_where_that_is_asked(tmp_path):
    for patient in range(10):
        pictures(tmp_path / f"patient{patient}", 8, size=(8, 8), first=8 * patient)
    images = own(tmp_path, by_folder=True)
    held = {images.source.facts[number].name.split("/")[0] for number, _ in images._held_out}
    assert images.held == 8 * len(held) == 16
    with pytest.raises(ValueError, match="1 volume or group"):
        own(tmp_path / "patient0", by_folder=True)


def test_larger_images_are_held_out_by_the_crops_that_they_hold():
    facts = [Facts(str(k), "", group=str(k), count=1) for k in range(20)]
    assert len(split(facts, [12] * 20, 0.1, 0).held_out) == 2
    assert len(split(facts, [4] * 20, 0.1, 0).held_out) == 4
    assert len(split(facts, [2] * 20, 0.4, 0).held_out) == 8
    with pytest.raises(ValueError, match="too few"):
        split(facts, [1] * 20, 0.1, 0)


def of_values(*files, white=None, units=""):
    """Facts of files that hold these values."""
    return [
        Facts(str(k), "", white=white, units=units, quantiles=quantiles_of(torch.tensor(values)))
        for k, values in enumerate(files)
    ]


def test_value_ranges_are_found_and_said():
    even = torch.linspace(0, 1, 10_001).tolist()
    sixteen = [65535.0 * value for value in even]
    twelve = [4095.0 * value for value in even]
    hounsfield = [-1000 + 2500 * value for value in even]
    hot = [*twelve, *[60000.0] * 3]
    assert find_range(of_values(even, white=255.0), None)[:2] == (0, 255)
    assert find_range(of_values(sixteen, white=65535.0), None)[:2] == (0, 65535)
    found = find_range(of_values(twelve, white=65535.0), None)
    assert found[:2] == (0, 4095)
    assert "far below the white of these files, 65535" in found.why
    found = find_range(of_values(hounsfield, units="HU"), None)
    assert found[:2] == (-1000, 1500)
    assert "from -1000 to 1500 HU" in found.why
    low, high, _ = find_range(of_values(hot, white=65535.0), None)
    assert low == 0
    assert high == pytest.approx(4095, rel=0.01)  # and not the hot pixels
    assert find_range(of_values(even), None)[:2] == (0, 1)
    assert find_range(of_values([2 * value - 1 for value in even]), None)[:2] == (-1, 1)
    assert find_range(of_values(hounsfield), (-200.0, 300.0))[:2] == (-200, 300)
    mixed = [*of_values(even, white=255.0), *of_values(sixteen, white=65535.0)]
    with pytest.raises(ValueError, match=r"1 of 8 bits, 1 of 16 bits.*--value-range"):
        find_range(mixed, None)


def test_pooled_quantiles_are_those_of_all_values():
    parts = [numpy_generator("pooled", k).normal(k, 1, 4000) for k in range(3)]
    exact = np.quantile(np.concatenate(parts), [0.001, 0.5, 0.999])
    found = pooled(of_values(*(part.tolist() for part in parts)), [0.001, 0.5, 0.999])
    np.testing.assert_allclose(found, exact, atol=0.3)


def test_values_outside_the_range_are_cut_off(tmp_path):
    for k in range(40):
        np.save(tmp_path / f"{k}.npy", numpy_generator("hu", k).uniform(-2000, 3000, (8, 8)))
    images = own(tmp_path, SMALL._replace(value_range=(-1000.0, 1000.0))).images(range(24))
    assert float(images.min()) == 0
    assert float(images.max()) == 1
    assert 0.15 < float((images == 0).float().mean()) < 0.25


def test_arrays_and_data_sets_are_sources():
    values = torch.rand(40, 3, 9, 9, generator=torch.Generator().manual_seed(salted(0)))
    array = OwnImages(Array(values), SMALL)
    assert array.values[:2] == (0, 1)
    pairs = [(image, 7) for image in values]
    items = OwnImages(TorchDataset(pairs), SMALL)
    assert torch.equal(array.images(range(5)), items.images(range(5)))
    whole = OwnImages(Array((255 * values).byte().numpy()), SMALL)
    assert whole.values[:2] == (0, 255)
    assert OwnImages(Array(values[:, 0]), SMALL).shape == (1, 8, 8)
    changed = values.clone()
    changed[3] = 0.5 * changed[3]
    assert OwnImages(Array(changed), SMALL).checksum != array.checksum


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.rand(3, 64, 64), ValueError, "give .n, channels, height, width"),
        (torch.rand(50, 9, 9, 3), ValueError, "channels last"),
        (torch.rand(50, 2, 9, 9), ValueError, "has shape"),
        (torch.rand(50, 9, 9) * 1j, TypeError, "complex"),
        (torch.full((50, 9, 9), torch.nan), ValueError, "NaN"),
    ],
)
def test_arrays_that_are_no_images(images, error, message):
    with pytest.raises(error, match=message):
        OwnImages(Array(images), SMALL)


def test_data_sets_that_give_no_images():
    with pytest.raises(TypeError, match="item 0 is str"):
        TorchDataset(["a"])
    with pytest.raises(TypeError, match="with a length"):
        TorchDataset(iter([]))
    with pytest.raises(ValueError, match="is empty"):
        TorchDataset([])


def test_the_cache_keeps_to_its_limit():
    loaded = []

    def load(number):
        loaded.append(number)
        return torch.zeros(100, dtype=torch.uint8)

    cache = Cache(load, limit=250)
    for number in (0, 1, 0, 2, 0, 1):
        assert cache[number].numel() == 100
        assert cache.used <= 250
    assert loaded == [0, 1, 2, 1]  # the one that was asked for last stays
    assert Cache(load, limit=10)[5].numel() == 100


def test_slices_of_a_dicom_series_are_one_volume_in_hounsfield_units(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    series = [pydicom.uid.generate_uid() for _ in range(6)]
    for k in range(48):
        pixels = numpy_generator("dicom", k).integers(0, 2000, (8, 8)).astype(np.uint16)
        uid = series[k // 8]
        dicom_slice(tmp_path, float(k), f"{k}.dcm", pixels, SeriesInstanceUID=uid)
    images = own(tmp_path)
    held = {images.source.facts[number].group for number, _ in images._held_out}
    assert (images.held, len(held)) == (16, 2)
    assert "HU" in images.statement()[2]


def test_sixteen_bits_and_volumes(tmp_path):
    tifffile, nibabel = pytest.importorskip("tifffile"), pytest.importorskip("nibabel")
    for k in range(32):
        pixels = numpy_generator("tiff", k).integers(100, 3000, (8, 9)).astype(np.uint16)
        tifffile.imwrite(_made(tmp_path / "tiff") / f"{k}.tif", pixels)
    assert own(tmp_path / "tiff").values[1] == pytest.approx(2999, abs=20)
    for k in range(8):
        values = numpy_generator("nifti", k).random((9, 8, 5)).astype(np.float32)
        image = nibabel.Nifti1Image(values, np.eye(4))
        nibabel.save(image, _made(tmp_path / "nifti") / f"{k}.nii.gz")
    images = own(tmp_path / "nifti")
    assert (images.trained, images.held) == (20, 20)
    assert "of 8 files" in images.statement()[0]


def _made(folder):
    folder.mkdir(exist_ok=True)
    return folder
