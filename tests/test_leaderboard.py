"""Ranks, ties, coverage and paired differences, against numbers worked out by hand.

With three degrees of freedom Student's t has a closed form: with ``u = t / sqrt(3)`` the two-sided
probability is ``1 - (2 / pi) (atan u + u / (1 + u^2))``.
"""

import json
import math
import re
from pathlib import Path

import pytest
from scipy.stats import ttest_rel

from tweedie_inverse.benchmarks.harness import leaderboard_page, records
from tweedie_inverse.benchmarks.harness.commands import main
from tweedie_inverse.benchmarks.harness.leaderboard import boards, standings
from tweedie_inverse.benchmarks.harness.paired import holm, paired

PAGE = Path(__file__).parents[1] / "docs" / "results" / "leaderboard.md"
FIRST = [1.0, 2.0, 3.0, 4.0]
NEAR = [1.6, 1.5, 3.6, 3.5]  # on average 0.05 more, once more and once less
BEHIND = [1.1, 2.2, 3.1, 4.2]  # 0.1 and 0.2 more


PROBLEM = "title; operator; prior; test"


def probability(u):
    return 1 - 2 / math.pi * (math.atan(u) + u / (1 + u * u))


def record(method, image, crps, *, task="a", coverage=0.9, evaluations=50, **outcome):
    samples = 1 if coverage is None else 8
    unit = records.Unit(
        "mine",
        task,
        PROBLEM,
        image,
        method,
        {"source": "s"},
        samples,
        0,
        "w",
    )
    cost = {"evaluations": evaluations, "vector_jacobian_products": 0}
    metrics = {"crps": crps, "coverage": coverage}
    return {"unit": unit.__dict__, **(outcome or {"metrics": metrics, "cost": cost, "run": {}})}


def many(method, values, **settings):
    covered = settings.pop("coverage", [0.9] * len(values)) or [None] * len(values)
    return [
        record(method, image, value, coverage=cover, **settings)
        for image, (value, cover) in enumerate(zip(values, covered, strict=True))
    ]


RECORDS = [
    *many("first", FIRST),
    *many("behind", BEHIND, coverage=[0.5, 0.6, 0.5, 0.6], evaluations=20),
    *many("near", NEAR, coverage=None),
]


def test_differences_by_hand():
    """0.1, 0.2, 0.1, 0.2: mean 0.15, standard deviation 0.1 / sqrt(3), t = 3 sqrt(3)."""
    found = paired([0.1, 0.2, 0.1, 0.2])
    assert found.mean == pytest.approx(0.15)
    assert found.error == pytest.approx(0.1 / math.sqrt(3) / 2)
    assert found.t == pytest.approx(3 * math.sqrt(3))
    assert found.p_value == pytest.approx(probability(3))
    assert found.p_value == pytest.approx(0.013847, abs=1e-6)
    assert found.p_above == pytest.approx(probability(3) / 2)
    assert found.p_value == pytest.approx(ttest_rel(BEHIND, FIRST).pvalue)
    # The 95 % point of t with three degrees of freedom is 2.3534 in every table.
    assert found.upper(0.05) == pytest.approx(0.15 + 2.3534 * found.error, rel=1e-4)


def test_differences_without_a_spread():
    assert paired([0.0, 0.0]).p_value == 1
    assert paired([0.1, 0.1]).p_value == 0
    assert paired([-0.1, -0.1]).p_above == 1
    one = paired([0.3])
    assert (one.p_value, one.p_above, one.upper(0.05)) == (1.0, 1.0, math.inf)
    with pytest.raises(ValueError, match="one difference or more"):
        paired([])


def test_holm_by_hand():
    """0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 x 1, which may not be below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_ranks_and_ties_by_hand():
    """Of three pairs that of "behind" and "first" has the smallest p, raised to 0.0415."""
    (board,) = boards(RECORDS)
    assert (board.budget, board.images) == (50, (0, 1, 2, 3))
    rows = [(p.entry.label, p.rank, p.ties, p.verdict) for p in board.places]
    assert rows == [
        ("first", 1, 1, "fits"),
        ("near", 1, 1, "point estimate"),
        ("behind", 2, 0, "too narrow"),
    ]
    first, near, behind = board.places
    assert first.crps.mean == 2.5
    assert first.crps.error == pytest.approx(math.sqrt(5 / 3) / 2)
    assert near.behind.mean == pytest.approx(0.05)
    assert near.raised == 1
    assert behind.raised == pytest.approx(3 * probability(3))
    assert behind.covered.mean == pytest.approx(-0.35)
    assert behind.covered.p_value == pytest.approx(probability(7))
    (over,) = [one for one in standings([board]) if one.label == "behind"]
    assert (over.tasks, over.firsts, over.fits) == (1, 0, 0)
    assert over.ratio == pytest.approx(2.65 / 2.5)
    assert over.coverage == pytest.approx(0.55)


def test_budgets_hold_what_they_pay_for():
    """A budget that brings no other method has no table, and neither has a single method."""
    rich = many("rich", [0.5] * 4, evaluations=1000)
    more = [*RECORDS, *rich, *many("cheap", [5.0] * 4, evaluations=9)]
    labels = {board.budget: {place.entry.label for place in board.places} for board in boards(more)}
    assert labels == {
        20: {"behind", "cheap"},
        50: {"behind", "cheap", "first", "near"},
        1000: {"behind", "cheap", "first", "near", "rich"},
    }


def test_means_over_tasks():
    both = [*RECORDS, *many("first", [2.0, 4.0], task="b"), *many("near", [1.0, 2.0], task="b")]
    found = {one.label: one for one in standings([b for b in boards(both) if b.budget == 50])}
    assert found["first"].ratio == pytest.approx(math.sqrt(1 * 2))
    assert found["near"].ratio == pytest.approx(math.sqrt(2.55 / 2.5))
    assert [one.tasks for one in found.values()] == [2, 2, 1]


def test_what_lacks_images_is_named_and_not_ranked():
    failed = record("behind", 3, 0.0, failed="no memory", run={})
    found = [*RECORDS[:7], failed, *many("few", [0.1, 0.1])]
    (board,) = [one for one in boards(found) if one.budget == 50]
    assert [place.entry.label for place in board.places] == ["first"]
    assert dict(board.left_out) == {
        "behind": "failed on 1 of 4 images: no memory",
        "few": "ran on 2 of 4 images",
    }


def test_one_image_ranks_nothing():
    board = boards([record("a", 0, 1.0), record("b", 0, 9.0)])[0]
    assert [place.rank for place in board.places] == [1, 1]
    assert [place.verdict for place in board.places] == ["not known", "not known"]


def test_files_of_records_and_pages(tmp_path, capsys):
    path = tmp_path / "some.jsonl"
    path.write_text(records.in_lines(RECORDS))
    assert records.read([path, path]) == sorted(
        json.loads(json.dumps(RECORDS)), key=lambda one: records.Unit(**one["unit"]).name
    )
    main(["leaderboard", str(path)])
    text = capsys.readouterr().out
    # Of 1.1, 2.2, 3.1, 4.2 the squares about 2.65 add up to 5.21: sqrt(5.21 / 3 / 4) is 0.6589.
    row = re.search(r"\| 2 \| behind .*", text)[0]
    assert row == (
        "| 2 | behind | 20 | 2.6500 +- 0.6589 | 0.1500 +- 0.0289 (+6.0 %) | 0.042 "
        "| 0.550 +- 0.029 | too narrow |"
    )
    assert "| 1= | near | 50 | 2.5500 +- " in text
    pytest.importorskip("jinja2")
    main(["leaderboard", str(path), "--out", str(tmp_path / "new" / "page.html")])
    page = (tmp_path / "new" / "page.html").read_text()
    assert "<td>0.1500 +- 0.0289 (+6.0 %)</td>" in page
    assert not re.search(r"(src|href)=[\"']?(http|//)", page)
    main(["leaderboard", str(path), "--out", str(tmp_path / "page.md"), "--budgets", "50"])
    assert (tmp_path / "page.md").read_text().count("### mine: a, at most 50") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: there is no such folder of results or file of records"),
        (["--out", "page.pdf"], "needs a file that ends in .html or .md"),
        (["--budgets", "0"], "budgets=0"),
        (["bad.jsonl"], "is no file of records"),
        (["empty.jsonl"], "nothing to rank"),
    ],
)
def test_wrong_input_is_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("bad.jsonl").write_text('{"unit": {}}\n')
    Path("empty.jsonl").write_text("\n")
    with pytest.raises(SystemExit) as end:
        main(["leaderboard", *arguments])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_the_committed_page_is_that_of_the_committed_records():
    found = records.read([leaderboard_page.COMMITTED])
    assert len(found) > 100
    assert PAGE.read_text() == "\n".join(leaderboard_page.markdown(found)) + "\n"
