"""The benchmark suites: the harness adds nothing, goes on after a kill, and shares work out."""

import copy
import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

import operators as ops
import tweedie_inverse as ti
from benchmarks import report
from benchmarks.__main__ import everything, main
from benchmarks.baselines import (
    DDRM,
    DPS,
    ULA,
    DiffPIR,
    MomentMatching,
    PiGDM,
    PnP,
    PnPADMM,
    TotalVariation,
)
from benchmarks.counting import CountedPrior
from benchmarks.methods import Method, methods
from benchmarks.records import Store, Unit, read
from benchmarks.row_noise import RowNoise
from benchmarks.runner import Pack, Plan, number, packs, run, work
from benchmarks.suites import PROGRAMS, SUITES, Task, field, load
from operators.random import normal
from tweedie_inverse.distributed import Place, find_place, shard
from tweedie_inverse.memory import in_parts
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.wrapped import WrappedPrior

FEW = ("decoupled", "dps", "wiener", "pseudo-inverse")
PLAN = Plan("field", images=2, samples=2, cap=3, size=16, keep_samples=True)


def chosen(*names):
    known = methods()
    return {name: known[name] for name in names}


def results(folder):
    """All that a result is, without when and where it was made; samples byte by byte."""
    files = {}
    for path in sorted((Path(folder) / "units").iterdir()):
        if path.suffix == ".json":
            record = json.loads(path.read_text())
            record.pop("run", None)
            files[path.name] = record
        else:
            files[path.name] = path.read_bytes()
    return files


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    run(PLAN, chosen(*FEW), Store(folder), tell=lambda line: None)
    return folder


def guided(fidelity, given, steps):
    from deepinv import sampling

    return sampling.PosteriorDiffusion(
        data_fidelity=fidelity,
        denoiser=given.denoiser,
        sde=sampling.VariancePreservingDiffusion(alpha=1.0),
        solver=sampling.DDPMSolver(timesteps=torch.linspace(1, 0, steps + 1, dtype=torch.float64)),
    )


def direct(method, given):
    """deepinv, called as its users call it."""
    import numpy as np
    from deepinv import optim, sampling

    shape, steps, l2 = tuple(given.start.shape), method.evaluations, optim.L2()
    match method:
        case DPS():
            sampler = sampling.DPS(given.denoiser, num_steps=steps + 1, guidance="annealed")
            return sampler(given.y, given.physics, x_init=shape)
        case PiGDM():
            fidelity = sampling.PiGDMDataFidelity(clip=(-1.0, 1.0), cg_max_iter=20)
            return guided(fidelity, given, steps)(given.y, given.physics, x_init=shape)
        case MomentMatching():
            fidelity = sampling.MomentMatchingDataFidelity(cg_max_iter=3)
            return guided(fidelity, given, steps)(given.y, given.physics, x_init=shape)
        case DiffPIR():
            sampler = sampling.DiffPIR(
                given.denoiser, l2, sigma=given.std, max_iter=steps, zeta=0.3, lambda_=7.0
            )
            return sampler(given.y, given.physics, x_init=given.start)
        case DDRM():
            sampler = sampling.DDRM(given.denoiser, sigmas=np.linspace(1, 0, steps))
            return sampler(given.y, given.physics)
        case PnP():
            model = optim.DPIR(sigma=given.std, denoiser=given.denoiser)
            with torch.no_grad():
                return model(given.y, given.physics, init=given.start)
        case PnPADMM():
            sigmas = torch.logspace(np.log10(49 / 255), np.log10(given.std), steps)
            model = optim.ADMM(
                data_fidelity=l2,
                prior=optim.PnP(denoiser=given.denoiser),
                params_algo={
                    "stepsize": (sigmas / given.std) ** 2,
                    "g_param": sigmas,
                    "lambda": 1.0,
                    "beta": 1.0,
                },
                max_iter=steps,
            )
            with torch.no_grad():
                return model(given.y, given.physics, init=(given.start, 0 * given.start))
        case TotalVariation():
            model = optim.FISTA(
                data_fidelity=l2,
                prior=optim.TVPrior(n_it_max=20),
                stepsize=0.95,
                lambda_reg=10.0 * given.std**2,
                max_iter=method.iterations,
            )
            with torch.no_grad():
                return model(given.y, given.physics, init=(given.start, given.start))
    step = 0.5 / (1 / given.std**2 + 1 / 0.02**2)
    iterator = sampling.ULAIterator({"step_size": step, "alpha": 1.0, "sigma": 0.02}, (-1.0, 2.0))
    chain = sampling.BaseSampling(
        iterator,
        optim.L2(sigma=given.std),
        optim.ScorePrior(given.denoiser),
        max_iter=steps,
        burnin_ratio=0.0,
        thinning=1,
        history_size=1,
    )
    chain.sample(given.y, given.physics, x_init=given.start)
    return chain.get_chain()[-1]["x"]


BASELINES = [DPS, PiGDM, MomentMatching, DiffPIR, DDRM, ULA, PnP, PnPADMM, TotalVariation]


def test_every_baseline_is_compared_with_deepinv():
    from benchmarks.baselines import Baseline

    assert {type(m) for m in methods().values() if isinstance(m, Baseline)} == set(BASELINES)


@pytest.mark.parametrize("kind", BASELINES)
def test_every_sample_is_what_deepinv_gives_for_its_seed(kind):
    """Catches a harness that rescales, reseeds or mixes the samples of a batch."""
    from benchmarks.denoiser import convert

    task, prior, method = field(16, 2, "test")[0], load("field-16"), kind().within(6)
    y = torch.stack([task.operator.measure(truth, seed=3) for truth in task.truths])
    seeds = [[11, 12], [13, 14]]
    samples = method.draw(y, task, prior, seeds, 3)  # parts of 3 and 1, across measurements
    assert samples.shape == (2, 2, 1, 16, 16)
    for measurement in range(2):
        for seed, sample in zip(seeds[measurement], samples[measurement], strict=True):
            one = y[measurement, None]
            given = convert(one, task, prior)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                expected = direct(method, given)[0].detach().to(sample)
            alone = method.draw(one, task, prior, [[seed]], 1)[0, 0]
            assert torch.equal(alone, expected)  # bit for bit, in a batch of one as deepinv's
            torch.testing.assert_close(sample, expected, atol=1e-5, rtol=1e-5)


def test_pigdm_overshoots_directions_of_much_variance_unless_it_is_clipped():
    """An exact prior whose mean grey value varies as that of photographs does; 100 steps."""
    f = torch.fft.fftfreq(16, dtype=torch.float64)
    spectrum = (f[:, None] ** 2 + f**2 + 0.0375**2) ** -1.3
    spectrum *= 0.06 / spectrum.mean()
    spectrum[0, 0] = 186.0
    prior = ti.priors.Gaussian(torch.full((1, 16, 16), 0.5), power_spectrum=spectrum)
    mask = ops.Mask(ops.box_mask((1, 16, 16), (6, 6)), noise=ops.GaussianNoise(0.05))
    truth = field(16, 1, "test")[0].truths
    task = Task("box", "box", "", mask, truth)
    for method, works in ((PiGDM(clip=None), False), (PiGDM(), True)):
        samples = method.draw(mask.measure(truth), task, prior, [[1]], 1)
        assert (float((samples - truth).abs().max()) < 5) == works


def test_row_noise_is_each_generators_own_stream_and_refuses_other_batches():
    with RowNoise([3, 4]):
        first, second = torch.randn(2, 5, 5), torch.randn_like(torch.zeros(2, 20))
    for row, seed in enumerate((3, 4)):
        generator = torch.Generator().manual_seed(seed)
        assert torch.equal(first[row], torch.randn(5, 5, generator=generator))
        assert torch.equal(second[row], torch.randn(20, generator=generator))
    with RowNoise([3]), pytest.raises(ValueError, match="drew 2 rows for 1"):
        torch.randn(2, 3)


def test_denoiser_is_the_prior_within_its_range_and_bounded_outside():
    from benchmarks.denoiser import PriorDenoiser

    prior = load("phantom-64")
    denoiser, x = PriorDenoiser(prior), normal((7,), (2, 1, 64, 64)).float()
    sigma = torch.tensor([0.1, 2.0])
    torch.testing.assert_close(denoiser(x, sigma), prior.denoise(x, sigma))
    assert bool(denoiser(100 * x, 100.0).abs().le(2).all())
    torch.testing.assert_close(denoiser(x, 1e-5), prior.denoise(x, prior.sigma_min))


def test_denoiser_answers_beyond_its_range_as_an_exact_one_does():
    """A network of a limited range against the exact denoiser: value and response, within C/s^2."""
    from benchmarks.denoiser import PriorDenoiser

    exact, limited = load("field-16"), load("field-16").for_shape((1, 16, 16))
    limited = copy.copy(limited)
    limited.any_sigma, limited.sigma_max = False, 20.0
    x = 0.5 + 60 * normal((7,), (2, 1, 16, 16)).float()
    for function in (lambda x: x, lambda x: x + normal((8,), x.shape).float()):
        found, expected = (
            PriorDenoiser(prior)(function(x), 60.0) - 0.5 for prior in (limited, exact)
        )
        assert float((found - expected).norm()) < 0.05 * float(expected.norm())


def test_scaling_to_norm_one_changes_units_only():
    from benchmarks.denoiser import convert

    task, prior = field(16, 1, "test")[-1], load("field-16")
    given = convert(task.operator.measure(task.truths), task, prior)
    assert ops.operator_norm(given.physics.operator) == pytest.approx(1, rel=1e-2)
    ratio = given.std / task.std
    y = task.operator.forward(task.truths) * ratio
    torch.testing.assert_close(given.physics.A(task.truths), y)


def test_costs_are_counted_at_the_prior():
    task, prior = field(16, 1, "test")[0], CountedPrior(load("field-16"))
    y = task.operator.measure(task.truths)
    DPS(evaluations=5).draw(y, task, prior, [[1, 2]], 2)
    assert (prior.calls, prior.vjps) == (10, 10)
    methods()["decoupled"].within(4).draw(y, task, prior, [[1, 2, 3]], 3)
    assert (prior.calls, prior.vjps) == (22, 10)


def test_a_counted_prior_answers_whatever_the_prior_does():
    """A question that the wrapper forgets would be answered by the base class's guess."""
    derived = {"score", "uncorrected", "for_shape"}  # from the others
    asked = {name for name in vars(Prior) if not name.startswith("_")}
    settings = {"centre", "any_sigma", "suits_populations"}
    assert asked - derived - settings <= {*vars(CountedPrior), *vars(WrappedPrior)}


TOGETHER = ["decoupled", "langevin", "particle", "wiener", "pseudo-inverse", "dps"]


@pytest.mark.parametrize("name", TOGETHER)
def test_samples_do_not_depend_on_what_runs_together(name):
    """Up to rounding, which conjugate gradients stopped early (pseudo-inverse) enlarge."""
    close = 1e-3 if name == "pseudo-inverse" else 1e-5
    task, prior = field(16, 2, "test")[1], load("field-16")
    y, method = task.operator.measure(task.truths, seed=1), methods()[name].within(4)
    seeds = [[5, 6, 7], [8, 9, 10]] if method.samples_posterior else [[5], [8]]
    whole = method.draw(y, task, prior, seeds, 6)
    for size in (1, 4):
        parts = method.draw(y, task, prior, seeds, size)
        torch.testing.assert_close(whole, parts, atol=close, rtol=close)
    for mine, one, samples in zip(seeds, y, whole, strict=True):
        alone = method.draw(one[None], task, prior, [mine], 3)[0]
        torch.testing.assert_close(samples, alone, atol=close, rtol=close)


def test_packs_of_measurements_give_the_same_numbers(undisturbed, tmp_path):
    """Together or one by one: the same units, the same metrics up to rounding."""
    plan = replace(PLAN, together=4)
    assert [len(pack.units) for pack in packs(plan, chosen(*FEW))] == [2] * 16
    run(plan, chosen(*FEW), Store(tmp_path), tell=lambda line: None)
    packed = {record["unit"]["image"]: record for record in read([tmp_path])}
    assert set(packed) == {0, 1}
    for mine, theirs in zip(read([tmp_path]), read([undisturbed]), strict=True):
        assert mine["unit"] == theirs["unit"]
        assert mine["cost"] == theirs["cost"]
        for name, value in theirs["metrics"].items():
            if isinstance(value, float):
                assert mine["metrics"][name] == pytest.approx(value, rel=1e-3, abs=1e-5)


def test_a_limit_below_one_measurements_samples_is_kept():
    plan = replace(PLAN, together=1, images=1, tasks=("blur",))
    assert {(len(pack.units), pack.together) for pack in packs(plan, chosen(*FEW))} == {(1, 1)}
    on_gpu = replace(PLAN, device="cuda", images=200)
    sizes = {len(pack.units) for pack in packs(on_gpu, chosen("wiener"))}
    assert (on_gpu.pack, sizes) == (128, {128, 72})


def test_two_ranks_of_packs_equal_one(tmp_path):
    plan = replace(PLAN, images=3, together=4, tasks=("blur",))
    run(plan, chosen(*FEW), Store(tmp_path / "one"), tell=lambda line: None)
    for rank in (1, 0):
        place = Place(rank, 2)
        store = Store(tmp_path / "two")
        run(plan, chosen(*FEW), store, place=place, tell=lambda line: None)
    assert results(tmp_path / "two") == results(tmp_path / "one")


@dataclass(frozen=True)
class Hungry(Method):
    """A method whose accelerator holds three samples."""

    source = "made up"

    def draw(self, y, task, prior, seeds, together):
        def part(first, last):
            if last - first > 3:
                raise torch.OutOfMemoryError
            return torch.ones(last - first, *task.operator.domain_shape) / 2

        rows = torch.cat(list(in_parts(len(y) * len(seeds[0]), together, part)))
        return rows.reshape(len(y), len(seeds[0]), *rows.shape[1:])


def test_a_batch_that_was_too_large_is_told_of_and_recorded(tmp_path):
    told = []
    plan = replace(PLAN, together=8, tasks=("blur",))
    run(plan, {"hungry": Hungry()}, Store(tmp_path), tell=told.append)
    notice = "out of memory with 4 samples at once; going on with 2"
    assert any(line.startswith(notice) for line in told)
    assert all(record["warnings"][0].startswith(notice) for record in read([tmp_path]))


@dataclass(frozen=True)
class Fails(Method):
    """A method that cannot solve the first image."""

    source = "made up"

    def draw(self, y, task, prior, seeds, together):
        if torch.equal(y[0], task.operator.measure(task.truths[0], seed=FIRST_SEED)):
            raise ArithmeticError("diverged")
        return torch.ones(len(y), len(seeds[0]), *task.operator.domain_shape)


FIRST_SEED = number(("measurement", 0, "field", "blur", 0))


def test_a_failure_in_a_pack_is_that_measurements_alone(tmp_path):
    plan = replace(PLAN, together=8, tasks=("blur",))
    run(plan, {"fails": Fails()}, Store(tmp_path), tell=lambda line: None)
    found = {record["unit"]["image"]: record for record in read([tmp_path])}
    assert found[0]["failed"] == "diverged"
    assert "metrics" in found[1]


def test_a_mismatch_is_a_record_with_its_reason(tmp_path):
    plan = Plan("nonlinear", images=1, samples=1, cap=1, tasks=("clipping",))
    run(plan, chosen("tv", "ddrm"), Store(tmp_path), tell=lambda line: None)
    assert {record["skipped"] for record in read([tmp_path])} == {"needs a linear operator"}
    assert "| tv | needs a linear operator |" in "\n".join(report.markdown(read([tmp_path])))


def test_a_wrong_task_is_no_methods_fault():
    task = field(16, 1, "test")[0]
    broken = ops.MatrixOperator(torch.eye(4), noise=ops.GaussianNoise(0.1))
    bad = Task("bad", "bad", "field-16", broken, task.truths.flatten(1)[:, :4])
    unit = Unit("field", "bad", "bad", 0, "decoupled", {}, 1, 0, "")
    with pytest.raises(ValueError, match="images of shape"):
        work(Pack((unit,), bad, methods()["decoupled"], 1))


def test_every_task_has_images_of_its_operators_shape_and_splits_that_differ():
    for suite in SUITES.values():
        for test, validation in zip(
            suite.make(suite.smoke_size, 2, "test"),
            suite.make(suite.smoke_size, 2, "validation"),
            strict=True,
        ):
            assert tuple(test.truths.shape) == (2, *test.operator.domain_shape)
            assert not torch.equal(test.truths, validation.truths)
            assert float(test.truths.std()) > 0.02


def test_shards_are_disjoint_and_complete():
    items = list(range(11))
    parts = [shard(items, Place(rank, 3)) for rank in range(3)]
    assert sorted(item for part in parts for item in part) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_place_is_as_given_or_as_the_launcher_says():
    assert find_place({}) == (0, 1)
    assert find_place({"RANK": "2", "WORLD_SIZE": "4"}) == (2, 4)
    assert find_place({"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "3"}) == (1, 3)
    assert find_place({"RANK": "2", "WORLD_SIZE": "4"}, 0, 2) == (0, 2)
    array = {"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1"}
    assert find_place(array) == (3, 4)
    assert find_place({"RANK": "0", "WORLD_SIZE": "1", **array}) == (3, 4)
    assert find_place({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}) == (1, 2)
    with pytest.raises(ValueError, match="both --rank and --world-size"):
        find_place({}, rank=1)
    with pytest.raises(ValueError, match="number from 0"):
        find_place({}, 2, 2)


def test_two_ranks_equal_one(undisturbed, tmp_path):
    for rank in (1, 0):
        run(PLAN, chosen(*FEW), Store(tmp_path), place=Place(rank, 2), tell=lambda line: None)
    assert results(tmp_path) == results(undisturbed)


TWO = ["run", "field", "--smoke", "--keep-samples", "--methods", "decoupled", "dps", "wiener"]


@pytest.mark.parametrize("pair", [("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")])
def test_a_launchers_variables_share_the_command_out(pair, tmp_path, monkeypatch):
    main([*TWO, "--out", str(tmp_path / "one")])
    monkeypatch.setenv(pair[1], "2")
    for rank in "01":
        before = len(read([tmp_path / "two"]))
        monkeypatch.setenv(pair[0], rank)
        main([*TWO, "--out", str(tmp_path / "two")])
        assert len(read([tmp_path / "two"])) - before == 6
    assert results(tmp_path / "two") == results(tmp_path / "one")


@pytest.mark.slow
def test_torchrun_with_two_processes_equals_one(tmp_path):
    """The launcher asks for one CPU thread a process; `--threads` keeps the bits equal."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    for name, start in (("one", []), ("two", launcher)):
        command = [sys.executable, *start, "-m", "benchmarks", *TWO, "--out", str(tmp_path / name)]
        subprocess.run(command, cwd=Path(__file__).parents[1], check=True, capture_output=True)
    assert results(tmp_path / "two") == results(tmp_path / "one")


def test_a_finished_unit_is_left_alone(undisturbed):
    lines = []
    run(PLAN, chosen(*FEW), Store(undisturbed), tell=lines.append)
    assert lines == []


def test_killed_and_run_again_equals_undisturbed(undisturbed, tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1])
    while process.poll() is None and len(list(tmp_path.glob("units/*.json"))) < 3:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = len(list(tmp_path.glob("units/*.json")))
    assert 3 <= finished < len(list(packs(PLAN, chosen(*FEW))))
    run(PLAN, chosen(*FEW), Store(tmp_path), tell=lambda line: None)
    left = [path for path in (tmp_path / "units").iterdir() if path.name.startswith(".")]
    for path in left:  # of the unit in flight: written, not yet in its place
        path.unlink()
    assert results(tmp_path) == results(undisturbed)


KILLED = """
import sys, time
from benchmarks import runner
from benchmarks.records import Store
from tests.test_suites import FEW, PLAN, chosen
runner.run(PLAN, chosen(*FEW), Store(sys.argv[1]), tell=lambda line: time.sleep(0.05))
"""


def test_smoke_run_and_report(tmp_path, capsys):
    names = [name for name in methods() if name != "isotropic"]
    main(["run", "field", "--smoke", "--out", str(tmp_path)])
    quick = ["--tasks", "sparse view", "radial", "super-resolution", "coded diffraction"]
    for suite in ("ct", "mri", "images", "nonlinear"):
        only = ["--methods", "decoupled", "dps", "wiener", "ddrm"]
        main(["run", suite, "--smoke", "--out", str(tmp_path), *only, *quick])
    found = read([tmp_path])
    assert not [record for record in found if "failed" in record]
    assert {record["unit"]["method"] for record in found} >= set(names)
    main(["report", str(tmp_path)])
    text = (tmp_path / "report.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert "## field: Gaussian random fields" in text
    assert "**" in text
    assert "dps | evaluations 3, guidance annealed, weight 1 | deepinv" in text
    tables = text.split("###")[1:]
    for table in tables:
        rows = [line for line in table.split("\n## ")[0].splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in rows}) == 1
    assert len(lines) > 60
    assert "commit" in text
    head, *body = (tmp_path / "report.csv").read_text().splitlines()
    assert head.startswith("suite,task,method,images,psnr_sample,psnr_sample_se")
    assert len(body) == len(report.rows(found))


def test_everything_is_run_once_in_a_smoke_run():
    assert everything(False) == [*SUITES, *PROGRAMS]
    smoke = everything(True)
    assert "images" in smoke
    assert "images-256" not in smoke
    assert {SUITES[name].make for name in smoke if name in SUITES} == {
        suite.make for suite in SUITES.values()
    }


def test_list_names_suites_and_sources(capsys):
    main(["list"])
    text = capsys.readouterr().out
    assert "field: Gaussian random fields" in text
    assert "DiffPIR(evaluations=100" in text
