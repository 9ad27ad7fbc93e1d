"""The page of acceptance: what fails stops nothing else, and the exit code tells."""

import time
from functools import partial

import pytest
import torch

from tweedie_inverse.__main__ import main
from tweedie_inverse.benchmarks.acceptance import command, cost, equality, networks
from tweedie_inverse.benchmarks.acceptance.bandwidth import bandwidth
from tweedie_inverse.benchmarks.acceptance.cost import recovery
from tweedie_inverse.benchmarks.acceptance.section import Outcome, Section, Setting, in_time, judged
from tweedie_inverse.benchmarks.problems.instruments import cases
from tweedie_inverse.numerics.random import normal

CPU = Setting("cpu", reduced=True, seconds=600.0)


def broken(setting):
    raise ZeroDivisionError("division by zero")


def outcome(passed, text, setting):
    return Outcome(passed, [text])


SECTIONS = (
    Section("broken", "Broken", "runs", broken, least=0.0),
    Section("bad", "Bad", "is good", partial(outcome, False, "it is bad"), least=0.0),
    Section("good", "Good", "is good", partial(outcome, True, "it is good"), least=0.0),
    Section("absent", "Absent", "is there", partial(outcome, None, "not installed"), least=0.0),
    Section("slow", "Slow", "is quick", broken, least=1e9),
)


def test_a_section_that_fails_does_not_stop_the_others():
    found = judged(SECTIONS, CPU, log=lambda line: None)
    assert [one.verdict for one in found] == ["FAIL", "FAIL", "pass", "skipped", "no time left"]
    assert found[0].lines == ["It stopped with an error: ZeroDivisionError: division by zero"]


@pytest.mark.parametrize(("names", "code"), [(["good", "absent"], None), (["good", "slow"], 2)])
def test_the_exit_code_tells_and_the_page_is_written(names, code, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "SECTIONS", SECTIONS)
    path = tmp_path / "page.md"
    arguments = ["benchmarks", "acceptance", "--out", str(path), "--sections", *names]
    if code is None:
        main(arguments)
    else:
        with pytest.raises(SystemExit) as error:
            main(arguments)
        assert error.value.code == code
        assert "not accepted: slow (no time left)" in capsys.readouterr().err
    text = path.read_text()
    assert ("no GPU was at hand" in text) != torch.cuda.is_available()
    assert "Sizes are reduced" in text
    assert "| Good | is good | pass | 0 |" in text
    assert "it is good" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sections", "sped"], "there are equality, overhead"),
        (["--minutes", "0"], "minutes"),
        (["--device", "mars"], "mars"),
        (["--threads", "0"], "threads"),
    ],
)
def test_what_cannot_be_is_refused_before_any_section(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        main(["benchmarks", "acceptance", "--out", str(tmp_path / "page.md"), *arguments])
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_cases_are_left_out_when_their_share_of_time_is_spent():
    setting = Setting("cpu", True, 0.2)
    seen = []
    for name in in_time("abc", setting, 0.1):
        seen.append(name)
        time.sleep(0.05)
    assert seen == ["a"]


def test_short_memory_and_bandwidth_are_measured():
    found = recovery(CPU)
    assert found.passed
    assert "went on with 2 at once" in found.lines[0]
    lines = bandwidth(CPU).lines
    assert [line.split(" | ")[0] for line in lines[-2:]] == ["| forward", "| adjoint"]


def test_a_posterior_that_is_another_is_seen(monkeypatch):
    """The first case only: the device's samples are those of another seed."""
    x = normal((1,), (4, 1, 8, 8))
    assert equality._apart(x + 0.001, x) < equality.SAME < equality._apart(x + 0.1, x)
    assert equality._apart(x, x) == 0


def test_a_disguised_network_costs_what_it_is_and_answers_as_an_exact_denoiser():
    prior = networks.adm_size(3, 16, "cpu", reduced=True)
    calls = []
    prior.module.network.register_forward_hook(lambda *given: calls.append(given[2].shape))
    x = 0.5 + normal((1,), (2, 3, 16, 16)).float()
    found = prior.denoise(x, 100.0)
    assert calls == [(2, 6, 16, 16)]
    assert float((found - 0.5).abs().max()) < 0.05  # all is noise
    assert float((prior.denoise(x, 0.001) - x).abs().max()) < 0.05
    operator = cost.large("MRI", 16)
    assert operator.domain_shape == (1, 16, 16)
    assert cost.large("mask", 16).domain_shape == (3, 16, 16)
    assert set(cases()) == {
        "mask", "Gaussian blur", "motion blur", "super-resolution", "CT", "MRI",
    }  # fmt: skip
    assert torch.is_grad_enabled()
