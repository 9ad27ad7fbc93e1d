"""A whole run, from images to a prior file, with its progress on the terminal."""

import warnings
from collections.abc import Callable
from pathlib import Path

from tweedie_inverse.boundary.warn import warn_user
from tweedie_inverse.training.checks import LEVELS, Check
from tweedie_inverse.training.config import TrainingConfig
from tweedie_inverse.training.export import export, prior_file
from tweedie_inverse.training.images import TrainingImages
from tweedie_inverse.training.team import Team
from tweedie_inverse.training.trainer import train

CHECK_EVERY = 250
_SHOWN = 0.1  # the noise level that is told of in one line


def complete(
    config: TrainingConfig,
    folder: str | Path,
    name: str,
    *,
    images: TrainingImages | None = None,
    device: str = "cpu",
    held_out: int = 512,
    licence: str = "",
    check_every: int = 0,
    team: Team | None = None,
    progress: bool = True,
    tell: Callable[[str], None] = print,
) -> Path:
    """Train to the end, measure, and write the prior and its card; returns the prior's file.

    Only the first process of a team tells, measures and writes; the others wait for it.
    """
    from tqdm import tqdm

    team = team or Team()
    shown = progress and team.leads
    run = train(
        config, folder, images=images, device=device, check_every=check_every, team=team
    )  # fmt: skip
    unit = "min" if config.minutes else "step"
    total = config.minutes or config.steps
    with tqdm(total=total, unit=unit, disable=not shown, bar_format=_bar(unit)) as bar:
        first: Check | None = None
        for report in run:
            now = min(report.seconds / 60, total) if config.minutes else report.step
            bar.update(now - bar.n)
            if report.loss == report.loss:
                bar.set_postfix(step=report.step, loss=f"{report.loss:.4f}")
            if report.check is not None:
                first = first or report.check
                if shown:
                    tqdm.write(in_words(report.check, first))
    if team.leads:
        if progress:
            tell(
                f"measuring the denoising error on up to {held_out} held-out crops, at 24 noise "
                "levels each; --held-out, or held_out=, takes fewer ..."
            )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            export(folder, name, count=held_out, images=images, licence=licence, device=device)
        for warning in caught:
            if progress:
                tell(f"warning: {warning.message}")
            else:
                warn_user(str(warning.message), warning.category)
    team.wait()
    return prior_file(folder, name)


def _bar(unit: str) -> str | None:
    return "{l_bar}{bar}| {n:.1f}/{total:.0f} min [{elapsed}{postfix}]" if unit == "min" else None


def in_words(check: Check, first: Check) -> str:
    """One look in one line, against the first one."""
    place = LEVELS.index(_SHOWN)
    held_out, trained = check.psnr()[place], check.psnr("trained")[place]
    gained = held_out - first.psnr()[place]
    text = (
        f"step {check.step}: at sigma {_SHOWN} held-out images are denoised to {held_out:.2f} dB, "
        f"training images to {trained:.2f} dB"
    )
    if check.step != first.step:
        text += f"; {gained:+.2f} dB since step {first.step}"
    return text + (f"\nwarning: {check.warning}" if check.warning else "")
