"""``--json``, ``--version``, ``--dry-run``, completion and help: what scripts and shells read."""

import json
import shutil
import subprocess
from importlib import metadata

import numpy as np
import pytest
import torch

from tweedie_inverse import operators as ops
from tweedie_inverse.app import check_command, completion, results
from tweedie_inverse.app.cli import _parser, main
from tweedie_inverse.evaluation.prior_check.findings import Finding
from tweedie_inverse.evaluation.prior_check.report import PriorReport

MASK = ["--operator", "mask", "--keep", "0.5", "--noise", "0.1", "--prior", "digits-32"]
QUICK = ["--samples", "2", "--steps", "2"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, no_pictures):
    monkeypatch.chdir(tmp_path)
    mask = ops.Mask(ops.random_mask((1, 32, 32), 0.5), noise=ops.GaussianNoise(0.1))
    np.save("y.npy", mask.measure(torch.full((1, 32, 32), 0.4), seed=0).numpy())
    return tmp_path


def told(capsys, *words, code=None):
    """The one object that a command prints, and what it says on the way."""
    if code is None:
        main([*words, "--json"])
    else:
        with pytest.raises(SystemExit, match=str(code)):
            main([*words, "--json"])
    said = capsys.readouterr()
    return json.loads(said.out), said.err


def test_solve_says_what_it_found(folder, capsys):
    found, words = told(capsys, "solve", "y.npy", *MASK, *QUICK, "--write", "mean")
    (one,) = found["measurements"]
    assert found["command"] == "solve"
    assert (one["samples"], one["written"]) == (
        str(folder / "posterior.safetensors"),
        [str(folder / "posterior.mean.npy")],
    )
    assert one["shape"] == [2, 1, 32, 32]
    assert one["stats"]["denoiser_calls"] == 2
    assert isinstance(one["consistent"], bool)
    assert one["verdict"] in words
    many, _ = told(capsys, "solve", "y.npy", *MASK, *QUICK, "--out", "all/")
    assert many["measurements"][0]["samples"] == str(folder / "all" / "y.safetensors")
    assert many["failed"] == []
    failed, _ = told(capsys, "solve", "y.npy", *MASK, "--tiled", "--out", "x.png", code=2)
    assert failed["error"].startswith("solve: --out x.png is for the samples")


@pytest.mark.slow
def test_unknowns_and_files_that_fail_are_in_it(folder, capsys):
    (folder / "bad.npy").write_text("no array")
    words = ["solve", "bad.npy", "y.npy", *MASK, *QUICK, "--noise", "estimate", "--out", "all"]
    found, _ = told(capsys, *words, code=2)
    assert found["failed"][0].startswith("bad.npy: ")
    (noise,) = found["measurements"][0]["unknowns"].values()
    low, high = noise["interval_90"]
    assert 0 < low < high


def test_other_commands_say_theirs(capsys):
    found, _ = told(capsys, "priors")
    assert "phantom-64" in [card["name"] for card in found["priors"]]
    assert told(capsys, "info")[0]["versions"]["numpy"] == np.__version__
    assert told(capsys, "info", "phantom-64")[0]["shape"] == [1, 64, 64]
    assert told(capsys, "operators", "blur")[0]["operators"]["blur"]["options"]["width"]


def test_a_check_says_its_findings(capsys, monkeypatch):
    """With a report that is made up: what the check computes has tests of its own."""
    report = PriorReport((Finding("offset", False, "0.2"),), (), (), ("range",), 1.0)
    monkeypatch.setattr(check_command, "check_prior", lambda *given, **options: report)
    found, said = told(capsys, "check", "digits-32", code=3)
    assert found["findings"] == [{"name": "offset", "passed": False, "text": "0.2"}]
    assert (found["passed"], found["blind"]) == (False, ["range"])
    assert "prior check: FAILED" in said


@pytest.mark.slow
def test_calibration_and_fit_say_theirs(folder, capsys):
    words = [*MASK[:-2], "--steps", "2", "--samples", "8", "--count", "20"]
    try:
        found, _ = told(capsys, "calibrate", "digits-32", *words, "--no-power")
    except SystemExit:  # a fault was seen: 2 steps are few
        found = json.loads(capsys.readouterr().out)
    assert 0 <= found["p_value"] <= 1
    assert (folder / "calibration" / "report.html").exists()
    try:
        found, _ = told(capsys, "check-fit", "y.npy", *words, "--prior", "digits-32")
    except SystemExit:
        found = json.loads(capsys.readouterr().out)
    assert found["reports"]["y.npy"][0]["verdict"]


def test_plain_numbers_only():
    value = {"a": float("nan"), "b": torch.tensor([1.5]), "c": (1, None), "d": np.float32(2)}
    assert results.plain(value) == {"a": None, "b": [1.5], "c": [1, None], "d": 2.0}


def test_a_dry_run_says_what_it_costs_and_writes_nothing(folder, capsys):
    words = ["solve", "y.npy", *MASK, "--samples", "3", "--steps", "8", "--write", "std"]
    before = sorted(folder.rglob("*"))
    found, said = told(capsys, *words, "--dry-run", "--out", "new/r.safetensors")
    assert sorted(folder.rglob("*")) == before
    assert "nothing was written" in said
    assert (found["walkers"], found["together"], found["evaluations"]) == (3, 3, 8)
    assert 0 < found["evaluation_seconds"] < found["seconds"]
    main([*words, "--out", "new/r.safetensors"])
    for path, size in found["written"].items():
        real = (folder / path).stat().st_size
        assert real / 2 < size < 3 * real or path.endswith(".png")
    assert (folder / found["problem"]).exists()
    capsys.readouterr()
    _, said = told(capsys, *words, "--dry-run", "--out", "all/", "--batch-size", "2")
    assert "3, 2 at once" in said
    assert not (folder / "all").exists()


def test_the_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.strip() == metadata.version("tweedie-inverse")


def commands():
    return next(a for a in _parser()._actions if a.dest == "command").choices


def test_every_command_has_an_example():
    without = [name for name, one in commands().items() if "example" not in (one.epilog or "")]
    assert set(without) <= {"benchmarks", "train"}


@pytest.mark.parametrize("name", ["solve", "simulate", "calibrate", "check-fit"])
def test_help_names_every_option(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    said = capsys.readouterr().out
    assert all(option in said for option in commands()[name].names())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sovle"], "did you mean solve?"),
        (["solve", "y.npy", "--smaples", "3"], "--smaples: there is no such option; did you mean"),
        (["solve", "y.npy", *MASK, "--as", "fit"], "did you mean fits?"),
        (["operators", "blurr"], "did you mean blur?"),
    ],
)
def test_typing_errors_are_short_and_named(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) <= 2


# Completion


@pytest.fixture(scope="module")
def scripts():
    """What `completion` prints, by shell."""
    words = completion._words(_parser())
    return {shell: made(words) for shell, made in completion.SCRIPTS.items()}


def test_a_script_is_printed(scripts, capsys):
    main(["completion", "fish"])
    assert capsys.readouterr().out == scripts["fish"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["sol"], ["solve"]),
        (["solve", "--dry"], ["--dry-run"]),
        (["solve", "--operator", "fou"], ["fourier-sampling"]),
        (["solve", "--geometry", ""], ["parallel", "fan"]),
        (["simulate", "x.png", "--prior", "photo"], ["photo-64"]),
        (["sample", "phantom-1"], ["phantom-128"]),
        (["completion", "f"], ["fish"]),
    ],
)
def test_bash_completes(line, expected, scripts):
    words = " ".join(f'"{word}"' for word in ["tweedie-inverse", *line])
    program = scripts["bash"] + (
        f"COMP_WORDS=({words}); COMP_CWORD={len(line)}; _tweedie_inverse; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (expected, "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_know_every_option(shell, scripts):
    text = scripts[shell]
    for name, one in commands().items():
        for option in one.names():
            assert (option if shell == "zsh" else f"-l {option[2:]}") in text, (name, option)
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
