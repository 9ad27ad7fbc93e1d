"""A population spread over two processes is the population of one."""

from pathlib import Path

import torch
import torch.multiprocessing as processes

import tweedie_inverse as ti
from tests.particle_problems import gaussian_log_evidence
from tests.posteriors import agreement, gaussian_posterior, random_field
from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.studies.mixture_problems import mixture_prior, mixture_problem

FIELD = random_field(8)
MASK = ops.Mask(ops.random_mask((1, 8, 8), 0.3, seed=1), noise=ops.GaussianNoise(0.2))
Y = torch.stack([MASK.measure(x, seed=5) for x in FIELD.draw(2, seed=3)])
MIXTURE = mixture_problem(mixture_prior(8), 1, seed=3)


def solved(communicator):
    """A Gaussian posterior of two measurements, and mixtures that resample at every level."""
    mixture = (MIXTURE.y, MIXTURE.operator, MIXTURE.prior)
    walks = {
        "gaussian": ti.walks.Particle(communicator=communicator),
        "resampled": ti.walks.Particle(threshold=1.0, communicator=communicator),
        "corrected": ti.walks.Particle(
            path="wiener", correctors=1, threshold=0.9, communicator=communicator
        ),
    }
    found = {
        "gaussian": ti.solve(Y, MASK, FIELD, method=walks["gaussian"], num_samples=1000, steps=6)
    }
    for name in ("resampled", "corrected"):
        found[name] = ti.solve(*mixture, method=walks[name], num_samples=300, steps=24, seed=4)
    return found


def process(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    for name, posterior in solved(ti.walks.ProcessGroup()).items():
        posterior.save(f"{folder}/{name}-{rank}.safetensors")
    try:
        walk = ti.walks.Particle(communicator=ti.walks.ProcessGroup())
        ti.solve(Y, MASK, FIELD, method=walk, num_samples=7, steps=2)
    except ValueError as error:
        Path(folder, f"refused-{rank}").write_text(str(error))
    torch.distributed.destroy_process_group()


def test_two_processes_sample_what_one_does(tmp_path):
    """Weights, ancestors and evidence, too: a walker that did not travel would show.

    That the samples are right is asked of them as of any others.
    """
    processes.spawn(process, (str(tmp_path),), nprocs=2)
    alone = solved(ti.walks.SingleProcess())
    for name, expected in alone.items():
        for rank in range(2):
            found = ti.Posterior.load(tmp_path / f"{name}-{rank}.safetensors")
            torch.testing.assert_close(found.samples, expected.samples, rtol=1e-9, atol=1e-9)
            mine, theirs = found.diagnostics.population, expected.diagnostics.population
            torch.testing.assert_close(mine.weights, theirs.weights, rtol=1e-9, atol=1e-12)
            assert torch.equal(mine.chosen, theirs.chosen)
            torch.testing.assert_close(mine.log_evidence, theirs.log_evidence)
            torch.testing.assert_close(mine.effective_sizes, theirs.effective_sizes)
            assert torch.equal(mine.ancestors, theirs.ancestors)
            assert torch.equal(mine.resamplings, theirs.resamplings)
            assert found.stats.denoiser_calls == expected.stats.denoiser_calls
    assert int(alone["resampled"].diagnostics.population.resamplings) > 15
    assert len(alone["resampled"].diagnostics.population.ancestors.unique()) > 5

    found = ti.Posterior.load(tmp_path / "gaussian-1.safetensors")
    for samples, y, evidence in zip(found.samples, Y, found.log_evidence, strict=True):
        exact = gaussian_posterior(FIELD, MASK, y, 0.2)
        assert agreement(samples, exact).worst_z < 5
        assert abs(float(evidence) - gaussian_log_evidence(MASK, y)) < 1e-6
    assert "a multiple of 2 walkers, got num_samples=7" in (tmp_path / "refused-0").read_text()
