"""Which weights of a file are taken: averages wherever they lie, and never an optimizer's."""

import logging
from pathlib import Path

import pytest
import torch

import tweedie_inverse as ti
from tests.layouts import AVERAGED, PREFIXES, RAW, optimizer, prefixed
from tests.networks import KarrasStyle, noisy, one_line, seeded
from tweedie_inverse.app.cli import main
from tweedie_inverse.priors import formats
from tweedie_inverse.priors.formats.networks.ncsnpp import Architecture, NCSNpp
from tweedie_inverse.priors.formats.reading.files import Checkpoint

TINY = Architecture(1, 1, 8, (1, 2), 1, (0,), False)
SETTINGS = formats.ScoreSDE(image_size=16, process="vp", discrete=True)


@pytest.fixture(scope="module")
def states():
    """Raw weights, their average, and others."""
    raw, other, worse = (dict(seeded(lambda: NCSNpp(TINY), s).state_dict()) for s in range(3))
    average = {name: 0.9 * value + 0.1 * other[name] for name, value in raw.items()}
    return raw, average, worse


def taken_from(content):
    """What the format is given of a file with this content."""
    source = formats.Source("a.pt", checkpoint=Checkpoint(Path("a.pt"), content, {}))
    return next(view for view in source.views() if SETTINGS.recognises(view))


def equal(state, expected):
    return all(torch.equal(state[name], value) for name, value in expected.items())


@pytest.fixture(scope="module")
def few(states):
    """The same with some of the weights, of which there are enough to tell them apart."""
    return tuple({name: state[name] for name in list(state)[:24]} for state in states)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_averages_are_found_in_every_layout(few, prefix):
    for layout, make in AVERAGED.items():
        content = make(*(prefixed(state, PREFIXES[prefix]) for state in few))
        view = taken_from(content)
        assert equal(view.state, few[1]), layout
        assert "the average" in view.checkpoint.taken_in_words(), layout
        assert not view.checkpoint.doubt(), layout


@pytest.mark.parametrize("prefix", PREFIXES)
def test_raw_weights_are_taken_where_there_is_no_average(few, prefix):
    raw, _, worse = (prefixed(state, PREFIXES[prefix]) for state in few)
    for layout, make in RAW.items():
        view = taken_from(make(raw, worse))
        assert equal(view.state, few[0]), layout
        assert "average" not in view.checkpoint.taken_in_words(), layout


def test_compiled_parts_inside_a_network(states):
    inside = {name.replace(".Conv_0", "._orig_mod.Conv_0"): v for name, v in states[1].items()}
    assert equal(taken_from({"model": states[0], "ema": inside}).state, states[1])


def test_an_average_without_buffers_is_completed(states):
    raw = {**states[0], "sigmas": torch.tensor([50.0, 0.01])}
    assert equal(taken_from({"model": raw, "ema": states[1]}).state, {**raw, **states[1]})


def saved(path, states, **others):
    raw, average, _ = states
    torch.save({"model": raw, "ema": average, **others}, path)
    return path


def test_what_was_taken_is_said_and_can_be_chosen(tmp_path, states, caplog, capsys):
    path = saved(tmp_path / "a.pt", states)
    with caplog.at_level(logging.INFO, logger="tweedie_inverse"):
        prior = ti.load_prior(path, format=SETTINGS)
    words = "the average, under 'ema' ('model' has the raw ones)"
    assert f"weights: {words}" in caplog.text
    main(["info", str(path)])
    assert f"weights: {words}" in capsys.readouterr().out
    main(["info", str(path), "--weights", "raw"])
    assert "weights: the raw ones, under 'model' ('ema' has the average)" in capsys.readouterr().out
    t, sigma = 300, float(ti.schedules.vp_linear_table()[300])
    x = noisy((1, 16, 16), sigma / 2)
    for weights, state in ((None, 1), ("ema", 1), ("raw", 0)):
        prior = ti.load_prior(path, format=SETTINGS, weights=weights)
        network = seeded(lambda: NCSNpp(TINY))
        network.load_state_dict(states[state])
        with torch.no_grad():
            output = network((2 * x - 1) / (1 + sigma**2) ** 0.5, torch.full((2,), t))
        expected = (2 * x - sigma * output) / 2
        torch.testing.assert_close(prior.denoise(x, sigma / 2), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"no such weights, found 'ema' \(average\), 'model'") as e:
        ti.load_prior(path, format=SETTINGS, weights="ema_0.999")
    assert one_line(e)
    with pytest.raises(ValueError, match="chooses among the weights of a file"):
        ti.load_prior(network, format=formats.Module((1, 16, 16), "epsilon"), weights="raw")


def test_averages_among_pickled_modules(tmp_path):
    raw, average = (seeded(KarrasStyle, seed) for seed in (0, 1))
    torch.save({"net": raw, "ema": average, "step": 3}, tmp_path / "run.pt")
    settings = formats.KDiffusion(shape=(1, 8, 8))
    x = noisy((1, 8, 8), 0.3)
    for weights, network in ((None, average), ("raw", raw), ("ema", average)):
        prior = ti.load_prior(
            tmp_path / "run.pt", format=settings, allow_arbitrary_code=True, weights=weights
        )
        state = prior.module.network.state_dict()
        assert torch.equal(state["inner.weight"], network.inner.weight)
        assert prior.denoise(x, 0.3).shape == x.shape
    with pytest.raises(ValueError, match="no such module, found 'net', 'ema'"):
        ti.load_prior(
            tmp_path / "run.pt", format=settings, allow_arbitrary_code=True, weights="best"
        )


def test_doubtful_averages_are_told(tmp_path, states):
    raw, average, worse = states
    torch.save({"model": raw, "ema": worse}, tmp_path / "random.pt")
    with pytest.warns(UserWarning, match=r"differs from the raw weights by .*weights='raw'"):
        ti.load_prior(tmp_path / "random.pt", format=SETTINGS)
    ti.load_prior(tmp_path / "random.pt", format=SETTINGS, weights="average")  # said, no warning
    torch.save({"model": raw, "ema": {"shadow": average, "num_updates": 0}}, tmp_path / "new.pt")
    with pytest.warns(UserWarning, match="was never updated"):
        ti.load_prior(tmp_path / "new.pt", format=SETTINGS)
    broken = {name: value.clone() for name, value in average.items()}
    broken["all_modules.2.weight"][0, 0, 0, 0] = torch.nan
    torch.save({"model": raw, "ema": broken}, tmp_path / "nan.pt")
    with pytest.raises(ValueError, match=r"1 numbers .*all_modules.2.weight.*weights='raw'") as e:
        ti.load_prior(tmp_path / "nan.pt", format=SETTINGS)
    assert one_line(e)
    assert ti.load_prior(tmp_path / "nan.pt", format=SETTINGS, weights="raw")


def test_averages_that_cannot_be_used_are_told(states):
    raw, average, worse = states
    short = {"model": raw, "ema": {"shadow_params": [*average.values()][1:]}}
    with pytest.raises(ValueError, match=r"do not follow the order of the weights; weights='raw'"):
        taken_from(short)
    with pytest.raises(ValueError, match=r"2 averages and does not say which is the longest"):
        taken_from({"model": raw, "ema": [average, worse]})
    assert equal(taken_from({"model": raw, "ema": [average, dict(average)]}).state, average)


def test_an_average_of_another_network_is_passed_over_with_a_word(tmp_path, states):
    other = {f"blocks.{i}.kernel": value for i, value in enumerate(states[1].values())}
    torch.save({"model": states[0], "ema": other}, tmp_path / "a.pt")
    with pytest.warns(UserWarning, match=r"average under 'ema' is not of format 'score-sde'.*raw"):
        prior = ti.load_prior(tmp_path / "a.pt", format=SETTINGS)
    assert equal(prior.module.state_dict(), states[0])


def test_optimizers_are_no_networks():
    state = {"a.weight": torch.ones(2, 2)}
    for content in (optimizer(state), {"ema": optimizer(state)}, {"optimizer": state}):
        checkpoint = Checkpoint(Path("a.pt"), content, {})
        assert checkpoint.found == []
