"""The page of a report: complete in itself, well formed, its tables sorted by its own script."""

import base64
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from tweedie_inverse.benchmarks.harness import report
from tweedie_inverse.benchmarks.harness.figures import PANELS, cost_figure
from tweedie_inverse.benchmarks.harness.page import TEMPLATES, page
from tweedie_inverse.benchmarks.harness.pictures import take
from tweedie_inverse.benchmarks.harness.plan import Plan
from tweedie_inverse.benchmarks.harness.records import Store, read, read_pictures
from tweedie_inverse.benchmarks.harness.runner import run
from tweedie_inverse.benchmarks.harness.table import rows
from tweedie_inverse.benchmarks.methods.registry import METHODS
from tweedie_inverse.benchmarks.problems.suites import SUITES
from tweedie_inverse.numerics.random import normal

# Written without an end, by the rules of HTML.
VOID = {"meta", "img", "br", "link", "input"}
PLAN = Plan(
    SUITES["field"], images=2, samples=3, cap=3, size=16, tasks=("blur", "super-resolution")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two methods and a point estimate; one of the methods with two settings."""
    folder = tmp_path_factory.mktemp("results")
    chosen = {name: METHODS[name] for name in ("decoupled", "ddrm", "pseudo-inverse")}
    run(PLAN, chosen, Store(folder), log=lambda line: None)
    again = {"decoupled": replace(METHODS["decoupled"], rho=3.0)}
    run(PLAN, again, Store(folder), log=lambda line: None)
    return folder


class Reader(HTMLParser):
    """Checks that every element is closed, and collects what the page asks for."""

    def __init__(self):
        super().__init__()
        self.open, self.asked, self.ids, self.images, self.rows = [], [], set(), [], []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        self.ids |= {found["id"]} if "id" in found else set()
        # SVG names its namespaces and the meaning of its metadata; none of these is fetched.
        self.asked += [found[name] for name in ("src", "href", "xlink:href") if name in found]
        if tag == "img":
            self.images.append((found["alt"], found["src"]))
        if tag == "tr":
            self.rows.append(0)
        if tag in ("td", "th"):
            self.rows[-1] += 1

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def text(folder):
    return page(read([folder]), read_pictures([folder]))


def test_the_page_is_well_formed_and_needs_nothing_else(text):
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    for asked in reader.asked:
        assert asked.startswith(("#", "data:image/jpeg;base64,")), asked
    links = [asked for asked in reader.asked if asked.startswith("#")]
    assert {link[1:] for link in links} <= reader.ids
    assert "@import" not in text
    assert "url(http" not in text
    assert not re.search(r"<(link|iframe|object)\b", text)
    assert len(text) < 2_000_000


def test_pictures_are_those_of_the_samples(text, folder):
    reader = Reader()
    reader.feed(text)
    assert len([alt for alt, _ in reader.images if alt == "truth"]) == 2
    # Two settings of the walk and DDRM: mean, spread and two samples; a point estimate: itself.
    assert len(reader.images) == 2 * (1 + 3 * 4 + 1)
    shown = next(src for alt, src in reader.images if alt == "truth")
    pixels = Image.open(io.BytesIO(base64.b64decode(shown.split(",")[1])))
    pictures = next(iter(read_pictures([folder]).values()))
    expected = pictures.truth.float().clamp(0, 1)[0].numpy()
    assert np.abs(np.asarray(pixels) / 255 - expected).mean() < 0.02


def test_pictures_are_kept_of_the_first_image_only(folder):
    first = {
        report.records.Unit(**record["unit"]).name
        for record in read([folder])
        if record["unit"]["image"] == 0
    }
    assert set(read_pictures([folder])) == first


def test_a_method_with_two_settings_has_two_rows_that_say_which(folder):
    table = rows(read([folder]))
    labels = {row.label for row in table}
    assert labels == {"decoupled [rho 3]", "decoupled [rho 7]", "ddrm", "pseudo-inverse"}
    assert all(row.images == 2 for row in table)


def test_the_figure_has_a_panel_for_every_question(folder):
    table = rows(read([folder]))
    figure = cost_figure(table)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [
        f"{task}: {panel.label}" for task in ("blur", "super-resolution") for panel in PANELS
    ]
    left = figure.axes[0]
    drawn = {tuple(xy) for line in left.lines for xy in zip(*line.get_data(), strict=True)}
    row = next(row for row in table if (row.task, row.label) == ("blur", "ddrm"))
    assert (3.0, row.cells["crps"].mean) in drawn


def test_write_leaves_tables_figures_and_the_page(folder, tmp_path):
    path = report.write([str(folder)], tmp_path)
    assert path.name == "report.html"
    names = {found.name for found in tmp_path.iterdir()}
    assert names == {"report.html", "report.md", "report.csv", "cost-field.png"}


def test_text_of_methods_and_tasks_is_escaped(folder):
    found = read([folder])
    found[0]["unit"]["task"] = "<script>alert(1)</script>"
    reader = Reader()
    shown = page(found, {})
    reader.feed(shown)
    assert reader.open == []
    assert "<script>alert" not in shown


# A table of the browser's, as far as the script touches it.
BROWSER = """
function element(attributes) {
  return {
    attributes, dataset: attributes,
    getAttribute(name) { return this.attributes[name] ?? null; },
    setAttribute(name, value) { this.attributes[name] = value; },
    removeAttribute(name) { delete this.attributes[name]; },
    querySelector() { return this; },
    addEventListener(kind, does) { this.click = does; },
  };
}
const values = VALUES;
const body = {
  rows: values.map(line => ({ cells: line.map(value => element({ value })) })),
  appendChild(row) { this.rows = this.rows.filter(other => other !== row).concat([row]); },
};
const heads = values[0].map(() => element({}));
const table = { tHead: { rows: [{ cells: heads }] }, tBodies: [body] };
const document = { querySelectorAll: () => [table] };
"""
ASK = """
const seen = CLICKS.map(column => {
  heads[column].click();
  const names = body.rows.map(row => row.cells[0].dataset.value);
  return [heads[column].getAttribute("aria-sort"), names];
});
console.log(JSON.stringify(seen));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs a JavaScript engine")
def test_the_script_sorts_numbers_by_value_names_by_letter_and_gaps_last():
    values = [["b", "10"], ["a", "9.5"], ["d", ""], ["c", "-1e-3"]]
    script = (TEMPLATES / "page.js").read_text().replace('"use strict";', "")
    code = BROWSER.replace("VALUES", json.dumps(values)) + script
    code += ASK.replace("CLICKS", "[1, 1, 0, 1]")
    done = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [
        ["ascending", ["c", "a", "b", "d"]],
        ["descending", ["b", "a", "c", "d"]],
        ["ascending", ["a", "b", "c", "d"]],
        ["ascending", ["c", "a", "b", "d"]],
    ]


def test_pictures_of_one_sample_have_no_spread():
    truth = normal((1,), (3, 8, 8)).float()
    alone = take(truth[None] + 1, truth)
    assert float(alone.std.abs().max()) == 0
    assert alone.samples.shape == (1, 3, 8, 8)
    several = take(truth + normal((2,), (5, 3, 8, 8)).float(), truth)
    assert several.samples.shape == (2, 3, 8, 8)
    assert float(several.std.mean()) > 0.5
