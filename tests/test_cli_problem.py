"""Problem files: what the command line says, in a file; and the file that repeats a result."""

import os
import tomllib

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.app import problem_file, solve_command, solve_many
from tweedie_inverse.app.cli import _parser, main
from tweedie_inverse.solving import checkpoint
from tweedie_inverse.solving.posterior import Posterior

PROBLEM = """
[measurement]
files = "data/y.npy"

[operator]
name = "mask"
mask = "seen.npy"

[noise]
std = 0.1

[prior]
name = "digits-32"

[solve]
samples = 2
steps = 2
seed = 3

[output]
out = "results/one.safetensors"
write = ["mean", 0.05]
as = "npy"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, no_pictures):
    """A problem file with what it names, seen from another folder."""
    (tmp_path / "job" / "data").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    job = tmp_path / "job"
    mask = ops.random_mask((1, 32, 32), 0.5, seed=1)
    np.save(job / "seen.npy", mask.numpy())
    operator = ops.Mask(mask, noise=ops.GaussianNoise(0.1))
    np.save(job / "data" / "y.npy", operator.measure(torch.full((1, 32, 32), 0.4), seed=0).numpy())
    (job / "problem.toml").write_text(PROBLEM)
    return job


def asked(*words):
    """The options that words end up as."""
    parser, arguments = _parser(), ["solve", *map(str, words)]
    options = parser.parse_args(arguments)
    options.result = {}
    return options.complete(parser, arguments, options)


def test_a_file_says_what_the_command_line_says(folder):
    options = asked(folder / "problem.toml")
    assert options.measurement == [str(folder / "data" / "y.npy")]
    assert options.operator_mask == str(folder / "seen.npy")
    assert (options.operator, options.prior, options.noise) == (
        "mask",
        "digits-32",
        "gaussian:std=0.1",
    )
    assert (options.samples, options.steps, options.seed) == (2, 2, 3)
    assert options.out == str(folder / "results" / "one.safetensors")
    assert (options.write, options.suffix) == (["mean", "0.05"], "npy")


def test_the_command_line_overrides_a_file(folder):
    options = asked("--samples", 5, folder / "problem.toml", "other.npy", "--noise", "estimate")
    assert (options.samples, options.noise, options.measurement) == (5, "estimate", ["other.npy"])
    assert options.operator_mask == str(folder / "seen.npy")
    options = asked("--problem", folder / "problem.toml", "--keep", 0.2)  # another way to say it
    assert (options.operator_keep, options.operator_mask) == ("0.2", None)
    options = asked(folder / "problem.toml", "--operator", "blur", "--width", 2)
    assert (options.operator, options.operator_mask) == ("blur", None)


WRONG = {
    "[operator]\nname = 'mask'\nkep = 0.5": "[operator] kep: means nothing; did you mean keep?",
    "[solv]\nsteps = 3": "[solv] means nothing; the tables are measurement, operator, prior, "
    "solve, output, noise; did you mean solve?",
    "[output]\nfolder = 'x'": "[output] folder: means nothing; [output] takes out, like",
    "[noise]\nmodel = 'poisson'\nstd = 1": "[noise] std: poisson takes model, gain",
    "[noise]\nmodel = 'poison'": "did you mean poisson?",
    "[solve]\nsteps = 'many'": "problem.toml: argument --steps: invalid int value: 'many'",
    "[solve]\nstrict = 1": "[solve] strict: needs true or false",
    "[prior\n": "is no TOML: ",
    "solve = 3": "solve must be a table, [solve]",
    "[prior.name]\nx = 1": "[prior] name: needs a value, not a table",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_a_file_cannot_say_is_refused(text, folder, capsys):
    (folder / "problem.toml").write_text(text)
    with pytest.raises(SystemExit, match="2"):
        main(["solve", str(folder / "problem.toml")])
    assert WRONG[text] in capsys.readouterr().err


def test_the_result_has_the_file_that_repeats_it(folder):
    main(["solve", str(folder / "problem.toml")])
    first = folder / "results" / "one.safetensors"
    assert (folder / "results" / "one.q0.05.npy").exists()
    tables = tomllib.loads((folder / "results" / "one.toml").read_text())
    assert tables["measurement"]["files"] == [os.path.join("..", "data", "y.npy")]
    assert tables["operator"] == {"name": "mask", "mask": os.path.join("..", "seen.npy")}
    assert tables["output"]["out"] == "one.safetensors"
    samples = Posterior.load(first).samples
    first.unlink()
    main(["solve", str(folder / "results" / "one.toml")])
    assert torch.equal(Posterior.load(first).samples, samples)
    right = ti.solve(
        np.load(folder / "data" / "y.npy"),
        ops.Mask(torch.tensor(np.load(folder / "seen.npy"))),
        ti.load_prior("digits-32"),
        num_samples=2, steps=2, seed=3, noise=0.1,
    )  # fmt: skip
    assert torch.equal(samples, right.samples)


def test_one_scan_goes_into_a_folder(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    words = ["solve", "problem.toml", "--write", "mean", "--out", "result/"]
    main(words)
    names = {path.name for path in (folder / "result").iterdir()}
    assert names == {"y.safetensors", "y.png", "y.mean.npy", "y.record.json", "problem.toml",
                     "settings.json"}  # fmt: skip
    main(["solve", "result/problem.toml"])
    assert "already there" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--keep", "0.4"])
    assert "(content of --mask: " in capsys.readouterr().err
    (folder / "result" / "y.safetensors").unlink()  # without results nothing is held against it
    (folder / "other").mkdir()
    (folder / "other" / "problem.toml").write_text("# mine")
    with pytest.raises(SystemExit, match="2"):
        main([*words[:-1], "other/"])
    assert "was not written by solve" in capsys.readouterr().err
    assert (folder / "other" / "problem.toml").read_text() == "# mine"


def test_a_folder_is_written_with_a_slash(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    for out, message in (("new", "new.safetensors, or a folder by a slash, new/"),
                         ("data", "write --out data/ to have the results in it")):  # fmt: skip
        with pytest.raises(SystemExit, match="2"):
            main(["solve", "problem.toml", "--out", out])
        assert message in capsys.readouterr().err


def test_a_folder_whose_only_run_failed_takes_other_settings(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    words = ["solve", "problem.toml", "--out", "result/", "--write", "mean"]
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--operator", "tomography", "--angles", "9"])
    assert "A sinogram has a row" in capsys.readouterr().err
    main(words)
    assert (folder / "result" / "y.safetensors").exists()


def test_a_command_is_saved_and_not_solved(folder, monkeypatch):
    monkeypatch.chdir(folder)
    words = ["data/y.npy", "--operator", "tomography", "--angles", "0,10", "--centre", "3,4",
             "--noise", "poisson:0.5", "--prior", "digits-32", "--value-range=-1000,1000",
             "--no-tiled", "--strict"]  # fmt: skip
    main(["solve", *words, "--save-problem", "saved/mine.toml"])
    assert not (folder / "posterior.safetensors").exists()
    monkeypatch.chdir(folder.parent)
    again, first = asked(folder / "saved" / "mine.toml"), asked(*words)
    there = tomllib.loads((folder / "saved" / "mine.toml").read_text())
    assert there["operator"]["angles"] == [0, 10]
    for name in ("operator", "operator_angles", "operator_centre", "prior", "value_range", "strict",
                 "tiled", "samples", "method", "seed"):  # fmt: skip
        assert getattr(again, name) == getattr(first, name), name
    assert again.measurement == [str(folder / "data" / "y.npy")]
    with pytest.raises(SystemExit, match="2"):  # wrong ones are not saved
        main(["solve", *words, "--keep", "1", "--save-problem", "wrong.toml"])
    assert not (folder.parent / "wrong.toml").exists()


def test_every_option_has_a_place_in_a_problem_file():
    """One that makes a result what it is must not be lost between the command and its file."""
    known = {key.dest for keys in problem_file.TABLES.values() for key in keys} | {"noise"}
    of_the_call = {"help", "problem", "save_problem", "dry_run", "json"}
    of_the_call |= {"rank", "world_size", "over_ranks"}
    commands = next(a for a in _parser()._actions if a.dest == "command").choices
    dests = {action.dest for action in commands["solve"]._actions}
    assert dests - of_the_call == known
    assert set(solve_many._NAMES) <= known


def test_the_file_of_a_walk_stays_until_the_results_are_written(folder, monkeypatch):
    """It is all there is of an hour's work if the disk is full at its end."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(checkpoint, "_EVERY", 0.0)

    def full(*given):
        raise OSError("No space left on device")

    for out, walk in (("one.safetensors", "one.walk"), ("many/", "many/y.walk")):
        with monkeypatch.context() as at_the_end:
            at_the_end.setattr(solve_command.bulk, "write", full)
            with pytest.raises(SystemExit, match="2"):
                main(["solve", "problem.toml", "--out", out])
        assert (folder / walk).exists()
        main(["solve", "problem.toml", "--out", out])
        assert not (folder / walk).exists()


def test_a_walk_that_was_killed_after_its_last_level_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_EVERY", 0.0)
    prior = ti.priors.Gaussian(torch.zeros(1, 4, 4), power_spectrum=torch.ones(4, 4))
    operator = ops.Mask(torch.ones(1, 4, 4), noise=ops.GaussianNoise(0.1))
    given = (torch.zeros(1, 4, 4), operator, prior)
    options = {"num_samples": 3, "steps": 3, "checkpoint": tmp_path / "walk"}

    def killed(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as at_the_end:
        at_the_end.setattr("tweedie_inverse.solving.solver.assemble", killed)
        with pytest.raises(KeyboardInterrupt):
            ti.solve(*given, **options, batch_size=2)
    found = ti.solve(*given, **options, batch_size=2)
    assert torch.equal(found.samples, ti.solve(*given, num_samples=3, steps=3).samples)
    assert not (tmp_path / "walk").exists()


def test_a_page_is_written_beside_every_result(folder, monkeypatch, capsys):
    """The page itself has tests of its own."""

    def report(self, path):
        path.write_text(str(tuple(self.samples.shape)))

    monkeypatch.chdir(folder)
    monkeypatch.setattr(Posterior, "report", report, raising=False)
    main(["solve", "problem.toml", "--write", "mean", "--report"])
    assert (folder / "results" / "one.html").read_text() == "(2, 1, 32, 32)"
    assert tomllib.loads((folder / "results" / "one.toml").read_text())["output"]["report"]
    main(["solve", "problem.toml", "--write", "mean", "--report", "page.html"])
    assert (folder / "page.html").exists()
    words = ["solve", "problem.toml", "--write", "mean", "--out", "many/"]
    main([*words, "--report"])
    assert (folder / "many" / "y.html").exists()
    (folder / "many" / "y.html").unlink()
    main([*words, "--report"])  # made from the saved posterior
    assert (folder / "many" / "y.html").exists()
    for name, message in (("page.html", "one measurement"), ("page.txt", "must end in .html")):
        more = ["--out", "r.safetensors"] if "end" in message else []
        with pytest.raises(SystemExit, match="2"):
            main([*words, *more, "--report", name])
        assert message in capsys.readouterr().err
