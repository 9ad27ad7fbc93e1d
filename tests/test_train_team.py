"""Several processes train the network that one would train; only the first one writes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.seeds import salted
from tweedie_inverse.training.checkpoint import load_run
from tweedie_inverse.training.team import Team, device_in_team, join_team

PROGRAM = """
import functools, sys, torch
import tweedie_inverse as ti
from tweedie_inverse.training import session
from tweedie_inverse.datasets.ellipses import EllipsePhantoms
from tweedie_inverse.training.config import TrainingConfig

torch.set_num_threads(1)
session.train = functools.partial(session.train, report_every=1)
config = TrainingConfig(size=16, batch=8, steps=6, warmup=2, widths=(8, 16), blocks=(1, 1))
images = EllipsePhantoms(18).images(range({seed}, {seed} + 40))
prior = ti.train(images, sys.argv[1], start=None, config=config)
print(prior.name, flush=True)
"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start(size, folder, tmp_path):
    """The program in `size` processes, as torchrun starts them; what each has printed."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(seed=100 * salted(0)))
    port, root = free_port(), str(Path(__file__).parents[1])
    processes = []
    for rank in range(size):
        said = {"WORLD_SIZE": size, "RANK": rank, "LOCAL_RANK": rank, "MASTER_PORT": port}
        environment = {name: str(value) for name, value in said.items()} if size > 1 else {}
        environment |= {"MASTER_ADDR": "127.0.0.1", "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
        processes.append(
            subprocess.Popen(
                [sys.executable, program, folder],
                env={**os.environ, **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    found = []
    for process in processes:
        out, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
        found.append(out)
    return found


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path):
    """With the same batch in all: half of it in each.  The losses agree to rounding."""
    (alone,) = start(1, tmp_path / "one" / "p", tmp_path)
    both = start(2, tmp_path / "two" / "p", tmp_path)
    assert "24 are trained on" in alone
    assert both[0] == alone
    assert both[1] == "p\n"  # the second loads the prior, and says nothing else
    one, two = (load_run(tmp_path / name / "p") for name in ("one", "two"))
    assert one.record["step"] == two.record["step"] == 6
    histories = [torch.tensor(run.record["history"]) for run in (one, two)]
    assert len(histories[0]) == 6
    torch.testing.assert_close(histories[1], histories[0], rtol=1e-4, atol=0)
    weights = [
        torch.cat([value.flatten() for value in run.task.prior.module.state_dict().values()])
        for run in (one, two)
    ]
    # Adam makes steps of full length where a gradient is rounding alone.
    assert float((weights[1] - weights[0]).norm() / weights[0].norm()) < 1e-3
    assert "2 processes" in two.record["machine"]


def test_shares_of_a_batch_are_the_batch():
    values = torch.arange(12)
    parts = [Team(rank, 3).mine(values) for rank in range(3)]
    assert sorted(torch.cat(parts).tolist()) == values.tolist()
    for rank in range(3):
        assert list(Team(rank, 3).mine_of(range(12))) == parts[rank].tolist()
    assert Team().leads
    assert not Team(1, 2).leads


def test_one_process_averages_nothing():
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([1.0, 2.0])
    assert Team().average([parameter], torch.tensor([3.0])).tolist() == [3.0]
    assert parameter.grad.tolist() == [1.0, 2.0]


def test_processes_that_cannot_talk_are_refused():
    assert join_team("cpu", {}) == join_team("cpu", {"WORLD_SIZE": "1"}) == Team()
    with pytest.raises(ValueError, match="Start them by torchrun"):
        join_team("cpu", {"WORLD_SIZE": "4", "RANK": "1"})


def test_each_process_has_an_accelerator_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    found = [device_in_team("cuda", {"LOCAL_RANK": str(rank)}) for rank in range(4)]
    assert found == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert device_in_team("cuda", {}) == "cuda"
    assert device_in_team("cpu", {"LOCAL_RANK": "1"}) == "cpu"


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    from tweedie_inverse.training.config import TrainingConfig
    from tweedie_inverse.training.trainer import train

    with pytest.raises(ValueError, match="must be a multiple of 3"):
        next(train(TrainingConfig(batch=32), tmp_path, team=Team(0, 3)))
