"""The training loop: when it saves, what it warms up, which weights it ends with."""

from dataclasses import replace

import pytest
import torch

from tweedie_inverse.app.cli import main
from tweedie_inverse.training import export as exporting
from tweedie_inverse.training.config import TrainingConfig, learning_rate
from tweedie_inverse.training.trainer import load_trained, train

SMALL = TrainingConfig(
    data="phantoms", size=16, steps=7, batch=4, widths=(8, 16), blocks=(1, 1), warmup=2
)


def checkpoint(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def test_saves_and_reports_have_intervals_of_their_own(tmp_path):
    """Reports at 2, 4, 6 and the end; checkpoints at 3, 6 and the end."""
    run, saved = train(SMALL, tmp_path / "a", report_every=2, save_every=3), []
    for report in run:
        exists = (tmp_path / "a" / "checkpoint.pt").exists()
        saved.append((report.step, checkpoint(tmp_path / "a")["step"] if exists else 0))
    assert saved == [(2, 0), (4, 3), (6, 6), (7, 7)]


def test_a_run_stopped_between_two_saves_goes_on_from_the_first(tmp_path):
    stopped = train(SMALL, tmp_path / "a", report_every=1, save_every=3)
    assert [next(stopped).step for _ in range(5)] == [1, 2, 3, 4, 5]
    stopped.close()
    rest = list(train(SMALL, tmp_path / "a", report_every=2, save_every=3))
    assert [report.step for report in rest] == [4, 6, 7]
    list(train(SMALL, tmp_path / "b", report_every=2, save_every=3))
    states = [checkpoint(tmp_path / name) for name in "ab"]
    for name, value in states[0]["network"].items():
        torch.testing.assert_close(value, states[1]["network"][name])


def test_a_warmup_of_zero_starts_at_the_full_rate(tmp_path):
    config = replace(SMALL, warmup=0, steps=2, cooldown=0.0)
    assert learning_rate(config, 0) == config.rate
    assert learning_rate(replace(config, warmup=1), 0) == config.rate
    assert [report.step for report in train(config, tmp_path, report_every=1)] == [1, 2]


def test_the_trained_prior_has_the_averaged_weights(tmp_path):
    """The first weights, then ``decay * old + (1 - decay) * new``; the decay grows up to 0.3."""
    config, expected = replace(SMALL, average=0.3, rate=1e-2), {}
    for count, _ in enumerate(train(config, tmp_path, report_every=1, save_every=1)):
        decay, last = min(0.3, (1 + count) / (10 + count)), checkpoint(tmp_path)["network"]
        for name, value in last.items():
            old = expected.get(name, value)
            expected[name] = decay * old + (1 - decay) * value
    found = load_trained(tmp_path).module.state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    assert max(float((found[name] - last[name]).abs().max()) for name in found) > 1e-3


@pytest.mark.parametrize("process", [[], ["--process", "psld"]], ids=["template", "phase space"])
def test_the_command_measures_the_error_on_as_many_held_out_images_as_it_is_told(
    process, tmp_path, monkeypatch
):
    measured = []
    measure = exporting.measure_denoising_error

    def note(prior, images, **settings):
        measured.append(len(images))
        return measure(prior, images, levels=2, **settings)

    monkeypatch.setattr(exporting, "measure_denoising_error", note)
    sizes = ["--size", "16", "--steps", "1", "--batch", "2", "--widths", "8", "16"]
    sizes += ["--blocks", "1", "1"]
    main(["train", str(tmp_path), "--data", "digits", "--held-out", "24", *sizes, *process])
    assert measured == [24]
    assert "24 held-out images" in (tmp_path / f"{tmp_path.name}.md").read_text()


@pytest.mark.parametrize("interval", [{"save_every": 0}, {"report_every": -1}])
def test_an_interval_of_no_step_is_refused(interval, tmp_path):
    with pytest.raises(ValueError, match="needs 1 step or more"):
        next(train(SMALL, tmp_path / "out", **interval))
    assert not (tmp_path / "out").exists()


def test_two_runs_in_one_folder_are_refused(tmp_path):
    first = train(SMALL, tmp_path, report_every=1, save_every=1)
    next(first)
    with pytest.raises(ValueError, match="train: another run is at work in"):
        next(train(SMALL, tmp_path))
    first.close()
    assert next(train(SMALL, tmp_path, report_every=1)).step == 2


@pytest.mark.parametrize("content", ["half", "empty", "text", "weights"])
def test_a_damaged_checkpoint_is_told_of_and_kept(content, tmp_path):
    path = tmp_path / "checkpoint.pt"
    list(train(replace(SMALL, steps=1), tmp_path))
    if content == "weights":
        torch.save({"network": {}}, path)
    else:
        path.write_bytes({"half": path.read_bytes()[:3000], "empty": b"", "text": b"a"}[content])
    before = path.read_bytes()
    for call in (lambda: list(train(SMALL, tmp_path)), lambda: load_trained(tmp_path)):
        with pytest.raises(ValueError, match="no checkpoint of a run") as error:
            call()
        assert "weights_only" not in str(error.value)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="there is no run in"):
        load_trained(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out", "--held-out", "0"], "held_out=0"),
        (["out", "--name", "a/b"], "name='a/b'"),
        (["out", "--name", ""], "name=''"),
        (["file"], "no file can be written in"),
        (["taken"], "is a folder"),
    ],
)
def test_what_the_end_of_a_run_needs_is_asked_for_at_its_beginning(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "taken" / "taken.md").mkdir(parents=True)
    with pytest.raises(SystemExit, match="2"):
        main(["train", *arguments])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_gradient_that_is_not_finite_ends_in_one_line(tmp_path, capsys):
    sizes = ["--size", "16", "--batch", "2", "--widths", "8", "16", "--blocks", "1", "1"]
    with pytest.raises(SystemExit, match="2"):
        main(["train", str(tmp_path), *sizes, "--steps", "9", "--rate", "1e30", "--warmup", "0"])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "the gradient became nan" in line
    assert "is kept" not in line  # nothing was saved yet
