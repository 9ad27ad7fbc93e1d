"""`tweedie-inverse check-fit`: would prior, operator and noise have made these measurements?"""

import argparse
from pathlib import Path
from typing import Any

from tweedie_inverse.app.check_command import FAILED, images_of
from tweedie_inverse.app.measurements import in_units_of, load
from tweedie_inverse.app.options import (
    MEASUREMENT_KEY,
    add_json,
    add_noise,
    add_operator,
    add_prior,
)
from tweedie_inverse.app.with_problem import with_equipment
from tweedie_inverse.evaluation.fit.plan import COUNT, SAMPLES, STEPS
from tweedie_inverse.evaluation.fit.report import FitReport


def add(commands) -> None:
    """Enter the command and its options."""
    command = commands.add_parser(
        "check-fit",
        help="alarm for measurements that the prior would not make",
        description="Measures images of the prior, solves them, and ranks each given measurement "
        f"among them. Exit code {FAILED} where one is an alarm.",
        epilog="example:\n  tweedie-inverse check-fit scan.npy --operator tomography --angles 30 "
        "--noise 0.5 --prior phantom-128\n",
    )
    command.add_argument(
        "measurement",
        nargs="*",
        help="files as for solve, one or a batch in each; or a problem file, .toml",
    )
    command.add_argument(
        "--problem", metavar="FILE.toml", help="a problem file; options override it"
    )
    command.add_argument("--key", help=MEASUREMENT_KEY)
    add_operator(command)
    add_prior(command)
    command.add_argument(
        "--images",
        nargs="+",
        help="files or folders of images that are measured as references, instead of the prior's",
    )
    command.add_argument(
        "--references",
        default="fit-references.safetensors",
        help="file where references are kept for other measurements; default %(default)s",
    )
    command.add_argument("--count", type=int, help=f"references, default {COUNT}")
    command.add_argument("--samples", type=int, default=SAMPLES, help="default %(default)s")
    command.add_argument("--steps", type=int, default=STEPS, help="default %(default)s")
    add_noise(command, "of the measurement, in its units, if the operator has no noise model")
    command.add_argument("--method", default="auto")
    command.add_argument("--level", type=float, default=0.05, help="share of false alarms")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument(
        "--value-range",
        metavar="LOW,HIGH",
        help="numbers of your images that the ends of the prior's value range stand for, as for "
        "solve: --value-range -1000,1000 for HU",
    )
    command.add_argument("--sha256", help="checksum the prior's file must have")
    command.add_argument("--tiled", action="store_true", help="for images larger than the prior's")
    command.add_argument("--device", default="cpu", help="such as cuda")
    command.add_argument("--batch-size", type=int, help="samples that run together")
    add_json(command)
    command.set_defaults(run=_check_fit, complete=with_equipment)


def _check_fit(options: argparse.Namespace) -> None:
    from tweedie_inverse.app.equipment import check, known_noise_of, operators, prior_of
    from tweedie_inverse.evaluation.fit.plan import prepare_plan
    from tweedie_inverse.evaluation.fit.reference import made
    from tweedie_inverse.evaluation.fit.report import checked_level
    from tweedie_inverse.runtime.devices import usable
    from tweedie_inverse.solving.validation import check_measurement

    options.device = usable(options.device, "check-fit")
    if not options.measurement:
        raise ValueError("check-fit: the measurement is missing: a file, or a problem file")
    check(options, "check-fit")
    known_noise_of(options.noise, "check-fit")
    asked = operators(options, "check-fit")
    prior, _ = prior_of(options, "check-fit")
    given, shapes = {}, set()
    for name in options.measurement:  # all of them before the references, which take long
        data = load(name, options.key)
        operator = asked.of(prior, data)
        shapes.add((operator.domain_shape, operator.range_shape))
        y = in_units_of(prior, data, Path(name).name, print)
        given[name] = check_measurement(y, operator)[0]
    if len(shapes) > 1:
        raise ValueError(
            "check-fit: the measurements are of different shapes, so that they need operators of "
            "their own; check them one shape at a time"
        )
    shaped = prior.for_shape(operator.domain_shape)
    images = images_of(shaped, options.images or (), None, most=options.count or COUNT)
    plan = prepare_plan(
        operator,
        prior,
        count=options.count,
        num_samples=options.samples,
        seed=options.seed,
        images=images,
        method=options.method,
        steps=options.steps,
        noise=known_noise_of(options.noise, "check-fit"),
        batch_size=options.batch_size,
        file=options.references,
    )
    level = checked_level(options.level, plan.count)
    reference = made(plan, True)
    reports = {name: reference.check_each(y, level=level) for name, y in given.items()}
    for name, found in reports.items():
        for number, report in enumerate(found):
            print(f"{name}{f', measurement {number}' if len(found) > 1 else ''}\n{report}")
    options.result.update(
        passed=all(report.passed for found in reports.values() for report in found),
        reports={name: [_told(report) for report in found] for name, found in reports.items()},
        references=Path(options.references),
    )
    print(f"references: {Path(options.references).resolve()}")
    if not all(report.passed for found in reports.values() for report in found):
        raise SystemExit(FAILED)


def _told(report: FitReport) -> dict[str, Any]:
    """What ``--json`` says of one measurement."""
    return {
        "passed": report.passed,
        "verdict": report.verdict,
        "p_value": report.p_value,
        "p_values": report.p_values,
        "level": report.level,
        "worst": report.worst,
    }
