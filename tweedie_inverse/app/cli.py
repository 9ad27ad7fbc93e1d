"""The command line: demo, solve, priors, info, convert, train."""

import argparse
import dataclasses
import importlib.util
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import get_args

from tweedie_inverse.boundary.arguments import count
from tweedie_inverse.datasets.registry import Dataset, dataset
from tweedie_inverse.operators import Operator
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.network import NetworkPrior
from tweedie_inverse.solving.posterior import Posterior
from tweedie_inverse.training.config import TrainingConfig
from tweedie_inverse.training.noise_levels import NOISE_LEVELS
from tweedie_inverse.training.objective import WEIGHTS
from tweedie_inverse.training.rows import TRAINING_ROWS
from tweedie_inverse.training.tasks import PROCESSES


def main(arguments: list[str] | None = None) -> None:
    """Parse and run; a wrong input ends with its message and exit code 2."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tweedie-inverse",
        description="Posterior samples of inverse problems with pretrained denoisers.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="solve four problems on held-out images")
    demo.add_argument("--out", default="demo-output", help="folder for pictures and table")
    demo.add_argument("--samples", type=int, default=8, help="posterior samples a problem")
    demo.add_argument("--steps", type=int, help="network evaluations a sample")
    demo.add_argument("--seed", type=int, default=0)
    demo.set_defaults(run=_demo)

    solve = commands.add_parser("solve", help="posterior samples of measurements in .npy files")
    solve.add_argument(
        "measurement",
        nargs="+",
        help=".npy file, one measurement or a batch; a folder, a pattern or several files are "
        "solved one by one, each with a seed of its own; run again to go on",
    )
    solve.add_argument(
        "--operator",
        required=True,
        metavar="FILE.py:NAME",
        help="python file and the name of an Operator in it",
    )
    solve.add_argument(
        "--prior", required=True, help="shipped prior, checkpoint file, pipeline folder or hub id"
    )
    solve.add_argument(
        "--tiled", action="store_true", help="for images larger than the prior's, tile by tile"
    )
    solve.add_argument("--format", help="format of the prior, where the file does not tell")
    solve.add_argument("--revision", help="commit of a hub id")
    solve.add_argument("--sha256", help="checksum the prior's file must have")
    solve.add_argument("--noise", type=float, help="noise std, if the operator has no noise model")
    solve.add_argument("--method", default="auto")
    solve.add_argument("--samples", type=int, default=16)
    solve.add_argument("--steps", type=int)
    solve.add_argument("--seed", type=int, default=0)
    solve.add_argument(
        "--out",
        help="file, posterior.safetensors by default, with a .png beside it; for several "
        "measurements a folder, posteriors by default",
    )
    solve.add_argument("--device", default="cpu", help="such as cuda")
    solve.add_argument("--batch-size", type=int, help="samples that run together")
    solve.add_argument("--rank", type=int, help="of this process, if no launcher says so")
    solve.add_argument("--world-size", type=int, help="number of processes that share the files")
    solve.set_defaults(run=_solve)

    priors = commands.add_parser("priors", help="list the shipped priors")
    priors.set_defaults(run=_priors)
    info = commands.add_parser("info", help="versions and devices, or what a network file holds")
    info.add_argument("prior", nargs="?", help="as for solve")
    info.add_argument("--format", help="its format, where the file does not tell")
    info.add_argument("--revision", help="commit of a hub id")
    info.set_defaults(run=_info)

    convert = commands.add_parser("convert", help="safetensors from the pickle of an EDM network")
    convert.add_argument("pickle", help="network-snapshot.pkl; the code in it is not run")
    convert.add_argument("out", help=".safetensors file")
    convert.set_defaults(run=_convert)

    # Listed here, run by `tweedie_inverse.__main__`: the benchmarks lie above this package.
    commands.add_parser("benchmarks", help="list, run, tune and report benchmark suites")

    train = commands.add_parser("train", help="train a prior; run again to resume")
    train.add_argument("folder", help="checkpoint, prior file and card go here")
    train.add_argument("--name", help="name of the prior; default is the folder's")
    train.add_argument("--device", default="cpu")
    train.add_argument(
        "--held-out",
        type=int,
        default=512,
        help="images that the denoising error is measured on; fewer take less time",
    )
    train.add_argument(
        "--row",
        action=_SetRow,
        choices=sorted(TRAINING_ROWS),
        help="a method's --parameterization, --noise-levels and --weight at once; options that "
        "come after it change them again",
    )
    choices = {
        "data": None,
        "noise_levels": [*sorted(NOISE_LEVELS), "learned"],
        "objective": sorted(get_args(TrainingConfig.__annotations__["objective"])),
        "process": sorted(PROCESSES),
        "weight": sorted(WEIGHTS),
    }
    for field in dataclasses.fields(TrainingConfig):
        _add_setting(train, field, choices.get(field.name))
    train.set_defaults(run=_train)
    return parser


class _SetRow(argparse.Action):
    """`--row` stands for the options it names, wherever it is written."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        for name, value in TRAINING_ROWS[values]._asdict().items():
            setattr(namespace, name, value)


def _add_setting(parser: argparse.ArgumentParser, field, choices: list[str] | None) -> None:
    """One option for one field of the training settings."""
    option, default = "--" + field.name.replace("_", "-"), field.default
    if isinstance(default, bool):
        parser.add_argument(option, action="store_true", default=default)
    elif isinstance(default, tuple):
        kind, text = type(default[0]), "default: " + " ".join(map(str, default))
        parser.add_argument(option, type=kind, nargs="+", default=default, help=text)
    else:
        parser.add_argument(
            option, type=type(default), default=default, choices=choices, help=f"default: {default}"
        )


def _demo(options: argparse.Namespace) -> None:
    from tweedie_inverse.app.demo import run

    run(options.out, num_samples=options.samples, steps=options.steps, seed=options.seed)


def _solve(options: argparse.Namespace) -> None:
    """One file to one file; several to a folder."""
    import os

    from tweedie_inverse.app import solve_files as bulk
    from tweedie_inverse.app.distributed import device_of, find_place, under_torchrun
    from tweedie_inverse.priors.zoo import load_prior

    options.device = device_of(options.device, os.environ)
    operator = _load_operator(options.operator)
    prior = load_prior(
        options.prior,
        format=options.format,
        revision=options.revision,
        sha256=options.sha256,
        device=options.device,
    )
    if options.tiled:
        prior = _tiled(prior)
    if not bulk.is_bulk(options.measurement):
        if options.rank is not None or options.world_size is not None:
            raise ValueError(
                "solve(--rank, --world-size): several processes share several files, and here is "
                f"one, {options.measurement[0]}; leave them out"
            )
        posterior = _posterior(options.measurement[0], operator, prior, options, options.seed)
        _show(posterior, Path(options.out or "posterior.safetensors"))
        return
    place = find_place(os.environ, options.rank, options.world_size)
    out = Path(options.out or "posteriors")
    items = bulk.find(options.measurement, out)
    names = ("operator", "prior", "tiled", "noise", "method", "samples", "steps", "seed")
    settings = {name: vars(options)[name] for name in names}
    file = options.operator.rpartition(":")[0]
    bulk.settle(out, {**settings, "operator file": bulk.checksum(file)})
    print(f"{len(items)} files, process {place.rank + 1} of {place.world_size}")
    failed = bulk.solve_files(
        items,
        lambda item: _posterior(
            item.measurement, operator, prior, options, bulk.seed_of(item, options.seed)
        ),
        place=place,
        tell=lambda line: print(line, flush=True),
    )
    print(f"results: {out.resolve()}")
    if failed:
        text = "\n  ".join([f"{len(failed)} file(s) could not be solved:", *failed])
        if not under_torchrun(os.environ):
            raise ValueError(text)
        # An exit code would make torchrun stop the processes that are still at work.
        print(f"error: {text}", file=sys.stderr)


def _tiled(prior: Prior) -> NetworkPrior:
    if not isinstance(prior, NetworkPrior):
        raise ValueError("--tiled: a phase-space prior knows its own size only; leave it out")
    return prior.tiled()


def _posterior(
    file: str | Path,
    operator: Operator,
    prior: Prior,
    options: argparse.Namespace,
    seed: int,
) -> Posterior:
    import numpy as np

    from tweedie_inverse.boundary.arrays import tensor_of
    from tweedie_inverse.solving.solver import solve

    y = tensor_of("solve", str(file), np.load(file)).to(options.device)
    is_whole = not (y.is_floating_point() or y.is_complex())
    return solve(
        y.float() if is_whole else y,
        operator,
        prior,
        method=options.method,
        num_samples=options.samples,
        steps=options.steps,
        seed=seed,
        noise=options.noise,
        batch_size=options.batch_size,
        progress=len(options.measurement) == 1 and Path(file) == Path(options.measurement[0]),
    )


def _show(posterior: Posterior, out: Path) -> None:
    posterior.save(out)
    posterior.plot(out.with_suffix(".png"))
    print(f"{posterior.stats.method} ({posterior.stats.reason})")
    chi_square = float(posterior.diagnostics.residual_chi_square.mean())
    print(f"residual chi-square per measurement: {chi_square:.3f} (should be near 1)")
    print(f"samples: {out.resolve()}\npicture: {out.with_suffix('.png').resolve()}")


def _load_operator(place: str) -> Operator:
    """The object NAME of FILE.py; the file is the user's own and is executed."""
    file, _, name = place.rpartition(":")
    if not file or not Path(file).is_file():
        raise ValueError(f"--operator {place}: needs FILE.py:NAME, with a file that exists")
    spec = importlib.util.spec_from_file_location("user_operator", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = vars(module).get(name)
    if not isinstance(found, Operator):
        raise ValueError(
            f"--operator {place}: {file} must define {name} as an instance of ops.Operator, found "
            f"{type(found).__name__}"
        )
    return found


def _priors(options: argparse.Namespace) -> None:
    from tweedie_inverse.priors.zoo import describe, list_priors

    print("\n\n".join(describe(card) for card in list_priors()))


def _info(options: argparse.Namespace) -> None:
    import torch

    if options.prior is not None:
        from tweedie_inverse.priors.zoo import inspect_prior

        found = inspect_prior(options.prior, format=options.format, revision=options.revision)
        print("\n".join(f"{name}: {value}" for name, value in found.items()))
        return
    print(f"python {platform.python_version()} on {platform.platform()}")
    for package in ("tweedie-inverse", "torch", "numpy", "scikit-image", "matplotlib", "deepinv"):
        try:
            print(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            print(f"{package} not installed")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"{torch.get_num_threads()} CPU threads; GPUs: {', '.join(gpus) or 'none'}")


def _convert(options: argparse.Namespace) -> None:
    from tweedie_inverse.priors.formats import convert

    print(f"prior: {convert(options.pickle, options.out)}")


def _train(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from tweedie_inverse.training.export import export
    from tweedie_inverse.training.trainer import train

    count("train", "held-out", options.held_out)
    names = [field.name for field in dataclasses.fields(TrainingConfig)]
    settings = {name: getattr(options, name) for name in names}
    for name in ("widths", "blocks"):
        settings[name] = tuple(settings[name])
    config = TrainingConfig(**settings)
    _warm_up(dataset(config.data, config.size))
    with tqdm(total=config.steps, unit="step") as bar:
        for progress in train(config, options.folder, device=options.device):
            bar.update(progress.step - bar.n)
            bar.set_postfix(loss=f"{progress.loss:.4f}")
    print("measuring the denoising error on held-out images ...")
    name = options.name or Path(options.folder).resolve().name
    path = export(options.folder, name, count=options.held_out)
    print(f"prior: {path}\ncard:  {path.with_suffix('.md')}")


def _warm_up(data: Dataset) -> None:
    """Fail on a missing image package before the progress bar starts."""
    data.images([0])
