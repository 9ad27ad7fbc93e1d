"""The command line: demo, solve, priors, info, convert, train."""

import argparse
import dataclasses
import os
import platform
import sys
import warnings
from importlib import metadata
from pathlib import Path
from typing import get_args

from tweedie_inverse.app.endings import WRONG, endings
from tweedie_inverse.datasets.registry import Dataset, dataset
from tweedie_inverse.operators import Operator
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.network import NetworkPrior
from tweedie_inverse.solving.diagnostics import PosteriorWarning
from tweedie_inverse.solving.posterior import Posterior
from tweedie_inverse.solving.posterior_file import is_consistent, refuse_suffix
from tweedie_inverse.training.config import TrainingConfig
from tweedie_inverse.training.noise_levels import NOISE_LEVELS
from tweedie_inverse.training.objective import WEIGHTS
from tweedie_inverse.training.rows import TRAINING_ROWS
from tweedie_inverse.training.tasks import PROCESSES

# Exit code of `solve --strict` where samples do not fit their measurement.
NOT_CONSISTENT = 3


def main(arguments: list[str] | None = None) -> None:
    """Parse and run; every error ends with one line and an exit code (`endings`)."""
    with endings():
        options = _parser().parse_args(arguments)
        options.run(options)


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
    solve.add_argument(
        "--strict",
        action="store_true",
        help=f"exit with code {NOT_CONSISTENT} where samples do not fit their measurement",
    )
    solve.add_argument("--rank", type=int, help="of this process, if no launcher says so")
    solve.add_argument("--world-size", type=int, help="number of processes that share the files")
    solve.set_defaults(run=_solve)

    priors = commands.add_parser("priors", help="list the shipped priors")
    priors.set_defaults(run=_priors)
    info = commands.add_parser("info", help="versions and devices, or what a network file holds")
    info.add_argument("prior", nargs="?", help="as for solve")
    info.add_argument("--format", help="its format, where the file does not tell")
    info.add_argument("--revision", help="commit of a hub id")
    info.add_argument("--weights", help="average, raw, or the name of an entry of the file")
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
    from tweedie_inverse.app import solve_files as bulk
    from tweedie_inverse.app.distributed import find_place, in_words, ready_device, under_torchrun
    from tweedie_inverse.runtime.atomic import ready, ready_folder

    options.device = ready_device(options.device, os.environ)
    place = find_place(os.environ, options.rank, options.world_size)
    many = bulk.is_bulk(options.measurement)
    if not many and options.world_size is not None:
        raise ValueError("solve: --rank and --world-size share several files; there is one")
    operator_file = options.operator.rpartition(":")[0]
    read = [operator_file, options.prior]
    if not many:
        out = _out(options.out)
        bulk.separate([out, out.with_suffix(".png")], [*read, options.measurement[0]])
        ready(out, out.with_suffix(".png"))
        refuse_suffix(out)
        operator, prior, _ = _equipment(options)
        posterior = _posterior(options.measurement[0], operator, prior, options, options.seed)
        bulk.write(posterior, out)
        _show(posterior, out)
        if options.strict and not posterior.diagnostics.is_consistent:
            raise SystemExit(NOT_CONSISTENT)
        return
    folder = Path("posteriors" if options.out is None else options.out)
    items = bulk.find(options.measurement, folder)
    written = [path for item in items for path in (item.result, item.picture, item.record)]
    bulk.separate(written, [*read, *(item.measurement for item in items)])
    ready_folder(folder)
    operator, prior, contents = _equipment(options)
    names = ("operator", "prior", "format", "tiled", "noise", "method", "samples", "steps", "seed")
    bulk.settle(folder, {**{name: vars(options)[name] for name in names}, **contents})
    print(f"{len(items)} files, {in_words(place, os.environ)}")
    failed = bulk.solve_files(
        items,
        lambda item: _posterior(
            item.measurement, operator, prior, options, bulk.seed_of(item, options.seed)
        ),
        place=place,
        tell=lambda line: print(line, flush=True),
    )
    print(f"results: {folder.resolve()}")
    if failed:
        text = "\n  ".join([f"{len(failed)} file(s) could not be solved:", *failed])
        print(f"error: {text}", file=sys.stderr)
        # An exit code would make torchrun stop the processes that are still at work.
        if not under_torchrun(os.environ):
            raise SystemExit(WRONG)

    results = [item.result for item in items if options.strict and item.result.is_file()]
    doubtful = [str(result) for result in results if not is_consistent(result)]
    if doubtful:
        text = "\n  ".join(doubtful)
        print(f"{len(doubtful)} of {len(items)} are not consistent:\n  {text}", file=sys.stderr)
        if not under_torchrun(os.environ):
            raise SystemExit(NOT_CONSISTENT)


def _out(given: str | None) -> Path:
    """The file of the samples; the picture goes beside it.

    Raises:
        ValueError: it has no name, or the picture's own.
    """
    out = Path("posterior.safetensors" if given is None else given)
    if not out.name:
        raise ValueError(f"solve: --out {given!r} is a folder, not a file; name a file to write")
    if out.suffix.lower() == ".png":
        raise ValueError(
            f"solve: --out {given} is for the samples, and the picture goes beside them as "
            f"{out.with_suffix('.png').name}; name a file such as {out.with_suffix('.safetensors')}"
        )
    return out


def _equipment(options: argparse.Namespace) -> tuple[Operator, Prior, dict[str, str]]:
    """Operator and prior, and the checksums of what they are made of, as far as it is in files."""
    from tweedie_inverse.priors.zoo import WEIGHTS_FOLDER, load_prior
    from tweedie_inverse.runtime.checksums import checksum

    operator, read = _load_operator(options.operator)
    contents = {f"content of {name}": digest[:16] for name, digest in read.items()}
    shipped = WEIGHTS_FOLDER / f"{options.prior}.safetensors"
    path = shipped if shipped.is_file() else Path(options.prior)
    if path.is_file() or path.is_dir():
        contents["content of the prior"] = checksum(path)[:16]
    elif options.revision is not None:
        contents["revision of the prior"] = options.revision
    prior = load_prior(
        options.prior,
        format=options.format,
        revision=options.revision,
        sha256=options.sha256,
        device=options.device,
    )
    return operator, _tiled(prior) if options.tiled else prior, contents


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

    from tweedie_inverse.app.solve_files import load_measurement
    from tweedie_inverse.boundary.arrays import tensor_of
    from tweedie_inverse.solving.solver import solve

    y = tensor_of("solve", str(file), load_measurement(file)).to(options.device)
    is_whole = not (y.is_floating_point() or y.is_complex())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PosteriorWarning)  # the verdict is printed
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
    print(f"{posterior.stats.method} ({posterior.stats.reason})")
    print(posterior.diagnostics.report)
    print(f"samples: {out.resolve()}\npicture: {out.with_suffix('.png').resolve()}")


def _load_operator(place: str) -> tuple[Operator, dict[str, str]]:
    """The object NAME of FILE.py, which is executed; and the checksums of what the file read."""
    from tweedie_inverse.app.user_files import execute

    file, _, name = place.rpartition(":")
    if not file or not Path(file).is_file():
        raise ValueError(f"--operator {place}: needs FILE.py:NAME, with a file that exists")
    ran = execute(f"--operator {place}", file)
    found = vars(ran.module).get(name)
    if not isinstance(found, Operator):
        raise ValueError(
            f"--operator {place}: {file} must define {name} as an instance of ops.Operator, found "
            f"{type(found).__name__}"
        )
    return found, ran.checksums


def _priors(options: argparse.Namespace) -> None:
    from tweedie_inverse.priors.zoo import describe, list_priors

    print("\n\n".join(describe(card) for card in list_priors()))


def _info(options: argparse.Namespace) -> None:
    import torch

    if options.prior is not None:
        from tweedie_inverse.priors.zoo import inspect_prior

        found = inspect_prior(
            options.prior,
            format=options.format,
            revision=options.revision,
            weights=options.weights,
        )
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
    from tweedie_inverse.app.solve_files import separate
    from tweedie_inverse.priors.formats import convert
    from tweedie_inverse.runtime.atomic import ready

    separate([Path(options.out)], [options.pickle])
    ready(options.out)
    print(f"prior: {convert(options.pickle, options.out)}")


def _train(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from tweedie_inverse.app.distributed import ready_device
    from tweedie_inverse.training.export import export, ready_to_export
    from tweedie_inverse.training.trainer import train

    options.device = ready_device(options.device, os.environ)
    folder = Path(options.folder)
    name = folder.resolve().name if options.name is None else options.name
    ready_to_export(folder, name, options.held_out)
    names = [field.name for field in dataclasses.fields(TrainingConfig)]
    settings = {name: getattr(options, name) for name in names}
    for sizes in ("widths", "blocks"):
        settings[sizes] = tuple(settings[sizes])
    config = TrainingConfig(**settings)
    _warm_up(dataset(config.data, config.size))
    with tqdm(total=config.steps, unit="step") as bar:
        for progress in train(config, folder, device=options.device):
            bar.update(progress.step - bar.n)
            bar.set_postfix(loss=f"{progress.loss:.4f}")
    print("measuring the denoising error on held-out images ...")
    path = export(folder, name, count=options.held_out)
    print(f"prior: {path}\ncard:  {path.with_suffix('.md')}")


def _warm_up(data: Dataset) -> None:
    """Fail on a missing image package before the progress bar starts."""
    data.images([0])
