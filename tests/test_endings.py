"""How commands end: one line and an exit code, and nothing at all on Ctrl-C or a closed pipe."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from tweedie_inverse.app import cli
from tweedie_inverse.app.endings import DEBUG, endings
from tweedie_inverse.benchmarks.harness import commands
from tweedie_inverse.walks.base import WalkDivergedError

ENDINGS = {
    "input": (ValueError("a\n  b"), 2, "error: a b\n"),
    "file": (PermissionError(13, "Permission denied", "x"), 2, "error: [Errno 13] "),
    "divergence": (WalkDivergedError("the walk became non-finite"), 2, "error: the walk became"),
    "numbers": (FloatingPointError("the gradient became nan"), 2, "error: the gradient"),
    "division": (ZeroDivisionError("division by zero"), 2, "error: ZeroDivisionError: division"),
    "memory": (MemoryError(), 2, "error: MemoryError\n"),
    "accelerator": (torch.OutOfMemoryError("CUDA\nTried"), 2, "error: OutOfMemoryError: CUDA\n"),
    "torch": (RuntimeError("shapes\n at c10::"), 1, "error: RuntimeError: shapes\n"),
    "mistake": (KeyError("x"), 1, "error: KeyError: 'x'\n"),
    "interrupt": (KeyboardInterrupt(), 130, ""),
    "pipe": (BrokenPipeError(), 141, ""),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_whatever_goes_wrong_is_one_line_and_an_exit_code(name, capsys, monkeypatch):
    error, code, said = ENDINGS[name]

    def fail(*given):
        raise error

    monkeypatch.setattr(cli, "_priors", fail)
    monkeypatch.setattr(commands, "show", fail)
    monkeypatch.setattr("tweedie_inverse.app.endings._discard_output", lambda: None)
    for main, argument in ((cli.main, "priors"), (commands.main, "list")):
        with pytest.raises(SystemExit) as ended:
            main([argument])
        assert ended.value.code == code
        err = capsys.readouterr().err
        assert err.startswith(said)
        if code == 1:  # a fault of ours: the second line says how to see more
            assert DEBUG in err.splitlines()[1]
        else:
            assert err.count("\n") == (said != "")


def test_a_traceback_for_those_who_ask(monkeypatch):
    monkeypatch.setenv(DEBUG, "1")
    with pytest.raises(KeyError), endings():
        raise KeyError("x")


INTERRUPTED = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(60)"
FROM_ELSEWHERE = "try: import tweedie_inverse\nexcept KeyboardInterrupt: print('theirs')"


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["-m", "tweedie_inverse", "info"], 130, ""),
        (["-m", "tweedie_inverse.benchmarks", "list"], 130, ""),
        (["-c", FROM_ELSEWHERE], 0, "theirs\n"),  # of a program that imports the package
    ],
)
def test_ctrl_c_during_imports_is_quiet(command, code, said, tmp_path):
    """It comes while torch is imported, which this stands for."""
    (tmp_path / "torch.py").write_text(INTERRUPTED)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=50,
        # Jobs in the background of a script inherit that they are deaf.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, said, "")


def test_nobody_reads_the_output(monkeypatch, capsys):
    """As after ``benchmarks list | head``; python flushes once more when it ends."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        with pytest.raises(SystemExit, match="141"), endings():
            print("a line")
        output.flush()
    assert capsys.readouterr().err == ""


COMMANDS = {
    "solve": (cli.main, ["solve", "y.npy", "--operator", "no.py:no", "--prior", "no"]),
    "train": (cli.main, ["train", "out", "--held-out", "0"]),
    "benchmarks": (commands.main, ["run", "field", "--out", "out", "--methods", "no"]),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("device", ["cuda:999", "gpu", "meta"])
def test_the_device_is_tried_before_anything_else(command, device, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main, arguments = COMMANDS[command]
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--device", device])
    assert f"--device {device}: torch sees no such device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
