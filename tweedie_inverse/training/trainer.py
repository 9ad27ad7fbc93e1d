"""Train a network, with an exponential average of its weights; resumable.

Every batch is fixed by its step number, so a run that was stopped and resumed sees the same data
as one that was not.
"""

from collections.abc import Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from tweedie_inverse.runtime.atomic import ready_folder
from tweedie_inverse.runtime.locks import alone_in
from tweedie_inverse.training.checkpoint import (
    CHECKPOINT,
    Trained,
    build_task,
    load_run,
    load_trained,
)
from tweedie_inverse.training.checks import Check
from tweedie_inverse.training.config import TrainingConfig
from tweedie_inverse.training.images import TrainingImages, generated_images
from tweedie_inverse.training.run import Run, dropped_labels
from tweedie_inverse.training.team import Team
from tweedie_inverse.training.watch import Watch

__all__ = [
    "Progress",
    "Trained",
    "build_task",
    "dropped_labels",
    "load_run",
    "load_trained",
    "train",
]


@dataclass(frozen=True)
class Progress:
    """One report of `train`: averages since the last report.

    Attributes:
        done: the share of the run that is over.
        check: how well held-out images are denoised, where it was measured at this step.
    """

    step: int
    loss: float
    seconds: float
    done: float = 0.0
    check: Check | None = None


def train(
    config: TrainingConfig,
    folder: str | Path,
    *,
    images: TrainingImages | None = None,
    device: str = "cpu",
    report_every: int = 50,
    save_every: int = 250,
    check_every: int = 0,
    team: Team | None = None,
) -> Generator[Progress, None, None]:
    """Train until `config.steps`, yielding progress; resumes from `folder` where it holds a run.

    The loop belongs to the caller: stop consuming and the last checkpoint stays usable.  The folder
    is locked until the loop ends or is closed.

    Args:
        images: to train on; default the data set of this package that `config.data` names.
        report_every: steps between two reports.
        save_every: steps between two checkpoints; the last step is always saved.
        check_every: steps between two looks at held-out images, with samples.png and loss.png in
            the folder; 0 for none.  The first is before the first step.
        team: the processes that share the work; default this one alone.

    Raises:
        ValueError: the folder cannot be written to, another run is at work in it, or it holds a
            run of other settings or images, or a damaged checkpoint.
        FloatingPointError: the gradient is not finite.
    """
    if min(report_every, save_every) < 1:
        raise ValueError(
            f"train(report_every={report_every}, save_every={save_every}): needs 1 step or more"
        )
    team = team or Team()
    if config.batch % team.size:
        raise ValueError(
            f"train(batch={config.batch}): {team.size} processes share a batch, which must be a "
            f"multiple of {team.size}"
        )
    folder = Path(folder)
    if team.leads:
        ready_folder(folder)
    team.wait()
    with alone_in(folder, "train") if team.leads else nullcontext():
        images = generated_images(config) if images is None else images
        run = Run(config, folder / CHECKPOINT, images, device, team)
        team.wait()  # until all have read the checkpoint
        try:
            yield from _loop(run, folder, report_every, save_every, check_every)
        finally:
            run.close()


def _loop(
    run: Run, folder: Path, report_every: int, save_every: int, check_every: int
) -> Iterator[Progress]:
    leads, losses = run.team.leads, list[float]()
    watch = Watch(run, folder) if leads and check_every else None
    if leads and run.step == 0:
        run.images.files(folder)
    if watch and not run.checks:
        yield Progress(run.step, float("nan"), run.seconds, run.done, watch.look())
    while not run.is_over:
        losses.append(run.advance())
        last = run.is_over
        looks = watch is not None and (last or run.step % check_every == 0)
        check = watch.look() if watch and looks else None
        report = None
        if run.step % report_every == 0 or last or check:
            report = Progress(run.step, sum(losses) / len(losses), run.seconds, run.done, check)
            run.history.append([report.step, report.loss])
            losses = []
        if leads and (run.step % save_every == 0 or last):
            run.save()
        if report is not None:
            yield report
    run.team.wait()
