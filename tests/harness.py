"""Small runs of the benchmark suites, and what they leave."""

import json
from pathlib import Path

from tweedie_inverse.benchmarks.harness.plan import Plan
from tweedie_inverse.benchmarks.methods.registry import METHODS
from tweedie_inverse.benchmarks.problems.suites import SUITES

FEW = ("decoupled", "dps", "wiener", "pseudo-inverse")
PLAN = Plan(SUITES["field"], images=2, samples=2, cap=3, size=16, keep_samples=True)


def chosen(*names):
    return {name: METHODS[name] for name in names}


def results(folder):
    """All that a result is, without when and where it was made; samples byte by byte."""
    files = {}
    for path in sorted((Path(folder) / "units").iterdir()):
        if path.suffix == ".json":
            record = json.loads(path.read_text())
            record.pop("run", None)
            files[path.name] = record
        else:
            files[path.name] = path.read_bytes()
    return files
