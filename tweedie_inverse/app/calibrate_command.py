"""`tweedie-inverse calibrate`: are the error bars of this operator, prior and walk right?"""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tweedie_inverse.app.check_command import FAILED, images_of
from tweedie_inverse.app.options import (
    MEASUREMENT_KEY,
    add_json,
    add_noise,
    add_operator,
    add_prior,
)
from tweedie_inverse.evaluation.calibrate.plan import COUNT, SAMPLES, Plan, prepare_plan
from tweedie_inverse.evaluation.calibrate.result import Calibration


def add(commands) -> None:
    """Enter the command and its options."""
    command = commands.add_parser(
        "calibrate",
        help="test the error bars by simulation; run again to go on",
        description="Draws truths, measures and solves them, and ranks each among its samples. "
        f"Exit code {FAILED} where a fault is seen.",
        epilog="example:\n  tweedie-inverse calibrate phantom-64 --operator tomography --angles 20 "
        "--noise 0.5 --steps 20\n",
    )
    add_prior(command, positional=True)
    command.add_argument(
        "images",
        nargs="*",
        help="files or folders of images, held out from the network's training, as truths; the "
        "test then judges whether the prior fits them, too. Without any, draws of the prior",
    )
    add_operator(command)
    command.add_argument(
        "--instrument",
        metavar="FILE.py:NAME",
        help="operator that really measures, where it is not the one that the solver is told",
    )
    command.add_argument(
        "--sampler",
        metavar="FILE.py:NAME",
        help="another method: a function (y, count, seed) -> samples (count, *shape)",
    )
    command.add_argument(
        "--statistics", metavar="FILE.py:NAME", help="your own statistics, functions by name"
    )
    command.add_argument(
        "--classes",
        metavar="FILE.py:NAME",
        help="classes of pixels for recalibrated intervals: labels, or a function of the samples",
    )
    command.add_argument("--count", type=int, help=f"truths, default {COUNT}")
    command.add_argument("--samples", type=int, default=SAMPLES, help=f"default {SAMPLES}")
    command.add_argument("--budget", type=int, help="network evaluations in all")
    command.add_argument("--method", default="auto")
    command.add_argument("--steps", type=int)
    add_noise(command, "that the solver is told, and of an instrument by name")
    command.add_argument("--level", type=float, default=0.05, help="share of false alarms")
    command.add_argument("--no-power", action="store_true", help="plant no faults")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument(
        "--folder", default="calibration", help="for truths, result and report; default calibration"
    )
    command.add_argument(
        "--store",
        action="store_true",
        help="keep what scales intervals in the prior's own file, for posterior.recalibrated()",
    )
    command.add_argument("--report", help="HTML page, default report.html in the folder")
    command.add_argument("--key", help=MEASUREMENT_KEY)
    command.add_argument("--device", default="cpu", help="such as cuda")
    command.add_argument("--batch-size", type=int, help="samples that run together")
    command.add_argument("--rank", type=int, help="of this process, if no launcher says so")
    command.add_argument("--world-size", type=int, help="number of processes that share the truths")
    add_json(command)
    command.set_defaults(run=_calibrate)


def _calibrate(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from tweedie_inverse.app.distributed import (
        find_place,
        in_words,
        ready_device,
        shard,
        under_torchrun,
    )
    from tweedie_inverse.evaluation.calibrate.judge import judge
    from tweedie_inverse.evaluation.calibrate.run import checked_level
    from tweedie_inverse.evaluation.calibrate.work import gathered, missing, settle, work
    from tweedie_inverse.priors.formats.kept import refuse_other
    from tweedie_inverse.priors.zoo import store_calibration

    options.device = ready_device(options.device, os.environ)
    place = find_place(os.environ, options.rank, options.world_size)
    level, page = checked_level(options.level), _page(options)
    if options.store:
        refuse_other(Path(options.prior))
    plan = _plan(options)
    assert plan.folder is not None
    settle(plan.folder, plan)
    print(f"{plan.count} truths, {in_words(place, os.environ)}", flush=True)
    mine = shard(range(plan.count), place)
    with tqdm(total=len(mine), unit="truth", desc="calibrate") as bar:
        work(plan, mine, bar.update)
    left = missing(plan, range(plan.count))
    if left:
        print(f"{len(left)} truths are left to other processes; run again for the result")
        return
    result = judge(plan, gathered(plan, {}), level)
    _show(result, plan.folder, page)
    options.result.update(
        passed=result.passed,
        findings=result.findings,
        p_value=result.p_value,
        p_values=result.p_values,
        scores=result.scores,
        count=result.count,
        folder=plan.folder,
        report=page,
    )
    if options.store:
        store_calibration(options.prior, result)
        print(f"kept in: {Path(options.prior).resolve()}")
    # An exit code would make torchrun stop a process that is still at the same result.
    if not result.passed and not under_torchrun(os.environ):
        raise SystemExit(FAILED)


def _page(options: argparse.Namespace) -> Path:
    """Where the report goes, found out before the work."""
    from tweedie_inverse.runtime.atomic import ready
    from tweedie_inverse.runtime.html import checked_page

    page = checked_page(options.report or Path(options.folder) / "report.html")
    ready(page)
    return page


def _plan(options: argparse.Namespace) -> Plan:
    from tweedie_inverse.app.equipment import (
        check,
        known_noise_of,
        load_operator,
        operators,
        prior_of,
    )

    check(options, "calibrate")
    known_noise_of(options.noise, "calibrate")
    asked = operators(options, "calibrate")
    instrument = None if options.instrument is None else load_operator(options.instrument)[0]
    prior, _ = prior_of(options, "calibrate")
    operator = asked.for_image(tuple(prior.shape))
    shaped = prior.for_shape(operator.domain_shape)
    images = images_of(shaped, options.images, options.key, most=options.count or COUNT)
    return prepare_plan(
        operator,
        prior,
        count=options.count,
        num_samples=options.samples,
        statistics=_named("--statistics", options.statistics, Mapping),
        budget=options.budget,
        seed=options.seed,
        images=None if images is None else images.to(options.device),
        method=options.method,
        steps=options.steps,
        noise=known_noise_of(options.noise, "calibrate"),
        sampler=_named("--sampler", options.sampler, object),
        instrument=instrument,
        batch_size=options.batch_size,
        folder=options.folder,
        classes=_named("--classes", options.classes, object),
        plants=not options.no_power,
    )


def _named(option: str, place: str | None, kind: type) -> Any:
    """An object of a user's file."""
    from tweedie_inverse.app.user_files import named

    if place is None:
        return None
    found, _ = named(option, place)
    if found is None or not isinstance(found, kind):
        file, _, name = place.rpartition(":")
        what = "functions by name, a dict" if kind is Mapping else "a function"
        raise ValueError(
            f"{option} {place}: {file} must define {name} as {what}, found {type(found).__name__}"
        )
    return found


def _show(result: Calibration, folder: Path, page: Path) -> None:
    print(result)
    saved = folder / "calibration.safetensors"
    result.save(saved)
    result.report(page)
    print(f"result: {saved.resolve()}\nreport: {page.resolve()}")
