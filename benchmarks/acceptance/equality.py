"""The same samples as on the CPU, and what half precision changes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.benchmarks.acceptance.section import Outcome, Setting, in_time, table
from tweedie_inverse.benchmarks.harness.metrics import as_posterior
from tweedie_inverse.benchmarks.problems.instruments import cases
from tweedie_inverse.benchmarks.problems.suites import photographs
from tweedie_inverse.evaluation.calibration import crps
from tweedie_inverse.priors.network import NetworkPrior
from tweedie_inverse.sampling.sampling import sample
from tweedie_inverse.solving.solver import solve

# Root mean square, in posterior standard deviations, of the difference of samples of one seed.
SAME = 0.01
_LEAST_SPREAD = 0.01
# What an option may do to a posterior.  Its mean moves by one standard error of a difference where
# the samples are others of the same law; with the same random numbers at the same levels, by less.
# Its standard deviation and its CRPS may change by these shares, twice that of few samples.
SHIFT, SPREAD, WORSE = 1.3, 0.1, 0.03


@contextmanager
def all_digits() -> Iterator[None]:
    """Convolutions and products of float32 in float32, which accelerators round by default."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def equality(setting: Setting) -> Outcome:
    """Every instrument, the three walks, and samples of a prior."""
    samples, steps = (2, 4) if setting.reduced else (8, 10)
    runs: dict[str, Callable[[str, int], Tensor]] = {}
    for name, case in cases(64).items():
        for method in ("decoupled", "langevin", "particle") if name == "mask" else ("decoupled",):

            def run(device: str, together: int, case=case, method=method) -> Tensor:
                operator, y, prior = case.given(device)
                found = solve(y, operator, prior, method=method, num_samples=samples, steps=steps,
                              batch_size=together, seed=3)  # fmt: skip
                return found.samples[0].cpu()

            runs[f"{name}, {method}"] = run

    def alone(device: str, together: int) -> Tensor:
        prior = cases(64)["CT"].given(device)[2]
        return sample(prior, samples, steps=steps, batch_size=together, seed=3).cpu()

    runs["samples of a prior"] = alone
    rows, passed = [], True
    for name in in_time(list(runs), setting, 0.25):
        here = runs[name]("cpu", samples)
        with all_digits():
            error = _apart(runs[name](setting.device, _other(setting, samples)), here)
        row = [name, f"{error:.1e}"]
        if setting.kind == "cuda":
            row.append(f"{_apart(runs[name](setting.device, samples), here):.1e}")
        rows.append(row)
        passed &= error < SAME
    usual = ["with TF32, torch's default"] if setting.kind == "cuda" else []
    lines = table(["case", "difference, posterior std", *usual], rows)
    if setting.kind == "cpu":
        lines = ["The CPU beside itself, one walker after the other.", "", *lines]
    missing = list(runs)[len(rows) :]
    if missing:
        lines += ["", f"Not compared for lack of time: {', '.join(missing)}."]
    return Outcome(passed and not missing, lines)


def _other(setting: Setting, samples: int) -> int:
    """How many run together there: on the CPU another number than at first."""
    return 1 if setting.kind == "cpu" else samples


def _apart(found: Tensor, expected: Tensor) -> float:
    # A small population may have resampled itself to one walker, which has no spread.
    spread = expected.std(dim=0).square().mean().sqrt().clamp(min=_LEAST_SPREAD)
    return float((found - expected).square().mean().sqrt() / spread)


def autocast(setting: Setting) -> Outcome:
    """Posteriors under each option of `NetworkPrior.faster`, with the same random numbers."""
    samples, steps = (8, 8) if setting.reduced else (64, 20)
    room = 2 if setting.reduced else 1
    operator, y, prior = cases(64)["Gaussian blur"].given(setting.device)
    assert isinstance(prior, NetworkPrior)
    truth = photographs(64, 1, "test").to(y)[0]
    options: dict[str, dict[str, Any]] = {"bf16": {"autocast": "bf16"}}
    if not setting.reduced:
        options["fp16"] = {"autocast": "fp16"}
    options["channels last"] = {"channels_last": True}
    if setting.kind == "cuda":
        options["graphs"] = {"graphs": True, "batch": samples}
        options["bf16, channels last, graphs"] = {
            "autocast": "bf16", "channels_last": True, "graphs": True, "batch": samples,
        }  # fmt: skip
    if not setting.reduced:
        options["bf16, compiled"] = {"autocast": "bf16", "compile": True, "batch": samples}

    def drawn(given: NetworkPrior) -> Tensor:
        return solve(y, operator, given, num_samples=samples, steps=steps, seed=1,
                     batch_size=samples).samples[0]  # fmt: skip

    plain = drawn(prior)
    mean, std = plain.mean(0), plain.std(0)
    score = float(crps(as_posterior(plain), truth))
    rows = [["as it is", "", "", f"{score:.5f}", f"{1000 * _evaluation(prior, y, samples):.1f}"]]
    passed = True
    for name in in_time(list(options), setting, 0.35):
        given = prior.faster(**options[name])
        found = drawn(given)
        moved = (found.mean(0) - mean).square().mean() / std.square().mean()
        shift = float((moved * samples / 2).sqrt())
        ratio = float(found.std(0).mean() / std.mean())
        its = float(crps(as_posterior(found), truth))
        passed &= shift < SHIFT and abs(ratio - 1) < room * SPREAD
        passed &= its < score * (1 + room * WORSE)
        milliseconds = 1000 * _evaluation(given, y, samples)
        rows.append([name, f"{shift:.3f}", f"{ratio:.3f}", f"{its:.5f}", f"{milliseconds:.1f}"])
    head = ["network", "shift of the mean, standard errors", "ratio of std"]
    return Outcome(passed, table([*head, "CRPS", "evaluation, ms"], rows))


def _evaluation(prior: NetworkPrior, like: Tensor, images: int) -> float:
    """Seconds of an evaluation, the fastest of some."""
    x = torch.zeros(images, *prior.shape).to(like)
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        with torch.no_grad():
            prior.denoise(x, 0.3)
        if like.is_cuda:
            torch.cuda.synchronize(like.device)
        seconds.append(time.perf_counter() - begin)
    return min(seconds)
