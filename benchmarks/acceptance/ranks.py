"""A population over two processes is that of one; under torchrun, this file is each of the two."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
from torch import Tensor

from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.acceptance.section import Outcome, Setting
from tweedie_inverse.benchmarks.problems.priors import field_prior
from tweedie_inverse.solving.posterior import Posterior
from tweedie_inverse.solving.solver import solve
from tweedie_inverse.walks import Particle, ProcessGroup

_RANKS, _WALKERS, _SIZE = 2, 200, 16


def ranks(setting: Setting) -> Outcome:
    """nccl where there are two GPUs, else gloo on the CPU."""
    device = "cuda" if setting.kind == "cuda" and torch.cuda.device_count() >= _RANKS else "cpu"
    backend = "nccl" if device == "cuda" else "gloo"
    with TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(_RANKS)),
            *("-m", "tweedie_inverse.benchmarks.acceptance.ranks", device, folder),
        ]
        limit = max(30.0, setting.left)
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        if done.returncode != 0:
            last = done.stderr.strip().splitlines()[-1:] or ["no message"]
            return Outcome(False, [f"torchrun ended with code {done.returncode}: {last[0]}"])
        found = [Posterior.load(Path(folder, f"{rank}.safetensors")) for rank in range(_RANKS)]
    expected = _solved(Particle(), device)
    spread = expected.samples.std()
    errors = [float((one.samples.to(expected.samples) - expected.samples).abs().max() / spread)
              for one in found]  # fmt: skip
    text = (
        f"{_WALKERS} walkers over {_RANKS} processes by {backend} on {device}: they differ from "
        f"one process by {max(errors):.1e} standard deviations at most."
    )
    return Outcome(max(errors) < 1e-6, [text])


def _solved(walk: Particle, device: str) -> Posterior:
    mask = ops.Mask(ops.random_mask((1, _SIZE, _SIZE), 0.3, seed=1), noise=ops.GaussianNoise(0.1))
    prior = field_prior(_SIZE)
    y: Tensor = mask.measure(prior.draw(1, seed=2), seed=0).to(device)
    return solve(y, mask, prior, method=walk, num_samples=_WALKERS, steps=6)


def main(device: str, folder: str) -> None:
    """One of the processes."""
    torch.set_num_threads(1)
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        posterior = _solved(Particle(communicator=ProcessGroup()), device)
        posterior.save(Path(folder, f"{dist.get_rank()}.safetensors"))
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
