"""Constants are made once for each device and type, and a step on a device sends nothing."""

import copy
import gc
import pickle
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch

import tweedie_inverse as ti
from tests.networks import seeded
from tests.posteriors import random_field
from tests.pretend_device import Elsewhere, There
from tests.registry import NONLINEAR, OPERATORS, Smoothing, _kernel
from tweedie_inverse import operators as ops
from tweedie_inverse.conditional import linear_gaussian
from tweedie_inverse.numerics import krylov, residence
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.residence import derived, resident, resident_on
from tweedie_inverse.priors.error.denoising_error import DenoisingError
from tweedie_inverse.priors.error.local_error import LocalError

# These leave torch, so that their numbers pass by the CPU.
LEAVES_TORCH = ("scipy-sparse", "scipy-complex")
FLOAT = torch.zeros((), dtype=torch.float32)


def doubled(x):
    return 2 * x


class TestResident:
    def test_a_copy_is_made_once_for_each_type(self):
        constant = normal((1,), (3,))
        assert resident(constant, constant) is constant
        assert torch.equal(resident(constant, FLOAT), constant.float())
        assert resident(constant, FLOAT) is resident(constant, FLOAT)
        assert resident(constant, FLOAT.half()).dtype == torch.float16
        assert derived(constant, doubled) is derived(constant, doubled)

    def test_it_goes_with_its_tensor(self):
        before = len(residence._kept)
        constant = torch.complex(normal((1,), (3, 4)), normal((2,), (3, 4)))
        resident(derived(constant, torch.conj_physical), torch.zeros((), dtype=torch.complex64))
        assert torch.equal(derived(constant, torch.conj), constant.conj())
        derived(constant, torch.flatten)
        assert derived(constant, torch.Tensor.contiguous) is constant
        assert len(residence._kept) > before
        del constant
        gc.collect()
        assert len(residence._kept) <= before

    def test_a_change_in_place_is_seen(self):
        constant = torch.ones(3).double()
        for value in (2.0, 3.0):
            constant[1] = value
            assert resident(constant, FLOAT)[1] == value == derived(constant, doubled)[1] / 2
            constant[:2].fill_(-value)  # through a view
            assert resident(constant, FLOAT)[1] == -value

    def test_gradients_and_modes_of_torch(self):
        wanted = torch.ones(3).double().requires_grad_()
        resident(wanted, FLOAT).sum().backward()
        assert torch.equal(wanted.grad, torch.ones(3).double())
        constant, x = torch.ones(3).double(), torch.ones(3, requires_grad=True)
        with torch.inference_mode():
            made_there = torch.ones(3).double()
            resident(constant, FLOAT)
        assert not resident(constant, FLOAT).is_inference()
        (x * resident(constant, FLOAT)).sum().backward()  # refuses tensors of inference mode
        with torch.inference_mode():
            made_there[0] = 5.0
            assert resident(made_there, FLOAT)[0] == 5
            made_there[0] = 6.0  # it counts no changes
            assert resident(made_there, FLOAT)[0] == 6
        other = torch.ones(3).double()
        for transform in (torch.func.grad, torch.func.vmap):
            transform(lambda x: (x * resident(other, FLOAT).sum()).sum())(torch.ones(3))
            assert not torch._C._functorch.is_functorch_wrapped_tensor(resident(other, FLOAT))

    def test_few_forms_are_kept_and_no_wide_copy_of_a_large_tensor(self, monkeypatch):
        constant = torch.ones(3)
        for index in range(2 * residence._FORMS):
            resident_on(constant.double(), torch.device("meta"))
            residence._form(constant, index, lambda: torch.zeros(1))
        assert len(residence._kept[id(constant)].forms) <= residence._FORMS
        monkeypatch.setattr(residence, "_LARGE", 2)
        large, double = torch.ones(3), torch.zeros(()).double()
        assert resident(large, double) is not resident(large, double)
        assert resident(large, FLOAT.half()) is resident(large, FLOAT.half())

    def test_many_threads_may_ask(self):
        constants = [torch.full((5,), float(i)).double() for i in range(40)]

        def asked(i):
            constant = constants[i % 40]
            return torch.equal(resident(constant, FLOAT), constant.float()) and torch.equal(
                derived(constant, doubled), 2 * constant
            )

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(asked, range(2000)))


def test_an_owner_is_copied_without_what_is_resident_and_may_be_given_other_numbers():
    mask = ops.Mask(torch.eye(8), noise=ops.GaussianNoise(torch.full((8, 8), 0.1)))
    size, x = len(pickle.dumps(mask)), torch.ones(1, 1, 8, 8)
    y = mask.forward(x)
    with Elsewhere() as device:
        mask.forward(x.to(device.device))
        mask.noise.whiten(x.to(device.device))
        assert len(pickle.dumps(mask)) == size
        other = copy.deepcopy(mask)
        other.mask = ~other.mask
        assert torch.equal(other.forward(x.to(device.device)).cpu(), 1 - y)
    assert torch.equal(mask.forward(x), y)


def _asked_of(operator, spectrum, x, y):
    """Everything that a walk asks of an instrument, but random numbers."""
    noise = operator.noise
    ax = operator.forward(x)
    yield ax
    yield noise.log_prob(y, ax)
    yield noise.gradient(y, ax)
    yield noise.standardize(y, ax)
    yield noise.information(ax, y, ax)
    yield noise.information_root(ax, y, ax)
    yield noise.variance(ax).expand_as(ax)
    if isinstance(operator, ops.LinearOperator) and not adjoint_by_autograd(operator):
        yield operator.adjoint(y)
    if spectrum is not None:
        modes = spectrum.to_modes(y)
        yield modes
        yield spectrum.from_modes(modes)
        yield spectrum.basis.inverse(spectrum.basis.transform(x))


def adjoint_by_autograd(operator):
    """The pretended device cannot take gradients."""
    return type(operator).adjoint is ops.LinearOperator.adjoint


ALL = {**OPERATORS, **{f"nonlinear-{name}": make for name, make in NONLINEAR.items()}}


@pytest.mark.parametrize("name", ALL)
def test_an_operator_on_a_device_answers_as_on_the_cpu_and_sends_nothing_twice(name):
    operator = ALL[name]()
    x = 0.5 + 0.2 * normal((1,), (2, *operator.domain_shape)).float()
    y = operator.measure(x)
    spectrum = getattr(operator, "spectrum", None)
    here = list(_asked_of(operator, spectrum, x, y))
    with Elsewhere() as device:
        x, y = x.to(device.device), y.to(device.device)
        assert torch.equal(operator.measure(x).cpu(), y.cpu())
        there = list(_asked_of(operator, spectrum, x, y))
        device.clear()
        again = list(_asked_of(operator, spectrum, x, y))
        if name not in LEAVES_TORCH:
            assert not device.transfers
            assert not device.readbacks
        for one, first, second in zip(here, there, again, strict=True):
            assert first.device == device.device
            assert torch.equal(first.cpu(), one)
            assert torch.equal(second.cpu(), one)


@pytest.mark.parametrize("most", [0, 3, 8, 9, 100])
def test_a_solver_that_looks_seldom_finds_the_same(most):
    root = normal((1,), (3, 20, 20)).float()
    matrix = root @ root.mT + torch.tensor([100.0, 5.0, 0.5])[:, None, None] * torch.eye(20)
    rhs = normal((2,), (3, 20)).float()
    rhs[0] = 0  # it is solved before the first iteration

    def solved(matrix, rhs):
        return krylov.conjugate_gradient(
            lambda z: (matrix @ z[..., None])[..., 0], rhs, tolerance=1e-3, max_iterations=most
        )

    here = solved(matrix, rhs)
    assert here.worst == float(here.residual.max())
    with Elsewhere() as device:
        there = solved(matrix.to(device.device), rhs.to(device.device))
        looks = [8, 16, 24, 36, 54, 81]
        due = [
            at for before, at in pairwise([-1, *looks]) if before < here.iterations and at < most
        ]
        assert sum(device.readbacks.values()) == len(due)
        assert (there.iterations, there.worst) == (here.iterations, here.worst)
    assert torch.equal(there.solution.here, here.solution)
    assert torch.equal(there.residual.here, here.residual)


SIDE = 12
NOISE_HERE = ops.GaussianNoise(0.5)
SOLVES = {
    "mask": lambda: ops.Mask(ops.random_mask((1, SIDE, SIDE), 0.3), noise=NOISE_HERE),
    "blur": lambda: ops.Blur(_kernel(), (1, SIDE, SIDE), noise=NOISE_HERE),
    "super-resolution": lambda: ops.Downsampling((1, SIDE, SIDE), 2, noise=NOISE_HERE),
    "tomography": lambda: ops.Tomography((1, SIDE, SIDE), 9, noise=NOISE_HERE),
    "mri": lambda: ops.FourierSampling(
        ops.radial_mask((SIDE, SIDE), 5), real=True, noise=NOISE_HERE
    ),
}


def _network(measured):
    """A prior of a network that does nothing right, with and without a measured error."""
    error = None
    if measured:
        sigmas = torch.tensor([0.01, 0.1, 1.0, 10.0]).double()
        table = (sigmas.square() / (1 + sigmas.square()))[:, None, None, None]
        table = (table * (0.5 + normal((1,), (4, 1, SIDE, SIDE)).abs())).float()
        local = LocalError(
            torch.linspace(-9, 0, 5).expand(4, 5), torch.linspace(1, 3, 5).expand(4, 5)
        )
        error = DenoisingError(sigmas, table, 0.01 * table, local, torch.eye(1).double())
    return ti.priors.NetworkPrior(
        seeded(Smoothing), "edm", shape=(1, SIDE, SIDE), sigma_min=0.01, sigma_max=20.0, error=error
    )


def _on(device, prior):
    """The same prior with its weights on the device."""
    if not hasattr(prior, "module"):  # one of numbers of the CPU
        return prior
    module = copy.deepcopy(prior.module)
    for part in module.modules():
        for name, weight in list(part.named_parameters(recurse=False)):
            setattr(part, name, torch.nn.Parameter(There(weight.data), requires_grad=False))
    prior = copy.copy(prior)
    prior.module = module
    assert prior.device == device.device
    return prior


class Level(NamedTuple):
    """What a level cost: transfers and read-backs by line, and its linear solves."""

    transfers: Counter
    readbacks: Counter
    solves: list[krylov.Solution]


@pytest.fixture
def solves(monkeypatch):
    """The linear solves of a walk so far."""
    made = []

    def counted(*args, **settings):
        found = krylov.conjugate_gradient(*args, **settings)
        made.append(found)
        return found

    monkeypatch.setattr(linear_gaussian, "conjugate_gradient", counted)
    return made


def _walked(solves, operator, prior, method, steps=5):
    """Samples of a walk and the cost of its levels, which must lead to the samples of the CPU."""
    y = operator.measure(0.5 + 0.2 * normal((1,), (1, *operator.domain_shape)).float())
    settings = {"method": method, "num_samples": 2, "steps": steps}
    here = list(ti.iterate(y, operator, prior, **settings))
    of_cpu, levels = [solve.iterations for solve in solves], []
    solves.clear()
    with Elsewhere() as device:
        walk = ti.iterate(y.to(device.device), operator, _on(device, prior), **settings)
        for step in walk:
            x = step.x
            levels.append(Level(device.transfers.copy(), device.readbacks.copy(), solves.copy()))
            device.clear()
            solves.clear()
        assert [solve.iterations for level in levels for solve in level.solves] == of_cpu
    # The CPU leaves out systems that are solved, and products of other sizes round otherwise.
    torch.testing.assert_close(x.cpu(), here[-1].x, rtol=1e-5, atol=1e-5)
    assert len(levels) == len(here)
    return levels


@pytest.mark.parametrize("measured", [True, False], ids=["measured", "from-network"])
@pytest.mark.parametrize("name", SOLVES)
def test_a_level_sends_nothing_and_waits_twice_for_python(name, measured, solves):
    """For the end of the solve for its draw, and for whether the state is finite."""
    levels = _walked(solves, SOLVES[name](), _network(measured), "decoupled", 5 if measured else 9)
    assert any(level.solves for level in levels)
    for level in levels[1:]:
        assert not level.transfers
        assert sum(level.readbacks.values()) <= 2


def test_a_gaussian_prior_of_the_cpu_sends_its_numbers_once(solves):
    operator = ops.Blur(_kernel(), (1, 8, 8), padding="reflect", noise=NOISE_HERE)
    for level in _walked(solves, operator, random_field(8), "decoupled")[1:]:
        assert not level.transfers
        assert sum(level.readbacks.values()) == 1


@pytest.mark.parametrize(("method", "most"), [("langevin", 1), ("particle", 2)])
def test_levels_of_other_walks_send_nothing(method, most, solves):
    for level in _walked(solves, SOLVES["mask"](), _network(True), method)[1:]:
        assert not level.transfers
        assert sum(level.readbacks.values()) <= most
