"""Which share of the work a process has, by the environments that launchers set."""

import pytest

from tweedie_inverse.app.distributed import device_of, find_place, in_words, shard

# What the launchers set, of the variables that could be taken for a rank or a number of processes.
JOB = {"SLURM_JOB_ID": "1234", "SLURM_NTASKS": "4", "SLURM_NPROCS": "4", "SLURM_NNODES": "2"}
SBATCH = {**JOB, "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
SRUN = {
    **JOB,
    "SLURM_STEP_ID": "0",
    "SLURM_STEPID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
}
ARRAY = {
    **SBATCH,
    "SLURM_NTASKS": "1",
    "SLURM_ARRAY_TASK_ID": "12",
    "SLURM_ARRAY_TASK_COUNT": "3",
    "SLURM_ARRAY_TASK_MIN": "10",
}
TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "none"}


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, (0, 1)),
        (SBATCH, (0, 1)),  # the script alone, which must do all of the work
        (SRUN, (3, 4)),
        (ARRAY, (2, 3)),
        ({**ARRAY, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"}, (2, 3)),  # srun in an array
        (TORCHRUN, (5, 8)),
        ({**SBATCH, **TORCHRUN}, (5, 8)),
        ({**SRUN, **TORCHRUN}, (5, 8)),  # one torchrun a node, started by srun
        ({**TORCHRUN, "RANK": "0", "WORLD_SIZE": "1"}, (0, 1)),
    ],
)
def test_launchers(environment, place):
    assert find_place(environment) == place


def test_a_batch_script_does_all_of_the_work():
    assert list(shard(range(8), find_place(SBATCH))) == list(range(8))


def test_devices_are_numbered_on_their_machine():
    assert device_of("cpu", SRUN) == "cpu"
    assert device_of("cuda", {}) == "cuda"
    assert device_of("cuda", TORCHRUN).startswith("cuda:")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "process 1 of 1"),
        ({**SBATCH, "SLURM_NTASKS": "1"}, "process 1 of 1"),
        (
            SBATCH,
            "process 1 of 1, which does all of the work: the job has 4 tasks, which srun starts",
        ),
        (SRUN, "process 4 of 4, which does its own share only"),
    ],
)
def test_the_share_is_said(environment, said):
    assert in_words(find_place(environment), environment) == said


def test_a_variable_that_is_no_number_is_named():
    with pytest.raises(ValueError, match="variable WORLD_SIZE should be a whole number, is 'two'"):
        find_place({"RANK": "0", "WORLD_SIZE": "two"})
