"""Samples a second at equal CRPS, beside deepinv's samplers (`studies.equal_quality`)."""

from importlib.util import find_spec

from tweedie_inverse.benchmarks.acceptance.section import Outcome, Setting
from tweedie_inverse.benchmarks.problems.suites import images
from tweedie_inverse.benchmarks.studies import equal_quality
from tweedie_inverse.benchmarks.studies.equal_quality import COMPETITORS, OURS, TASKS

_REDUCED = 10


def competitors(setting: Setting) -> Outcome:
    """Each in turn on the same measurements, cheap ones first."""
    if find_spec("deepinv") is None:
        return Outcome(None, ["deepinv is not installed: pip install tweedie-inverse[benchmarks]."])
    count, samples = (1, 2) if setting.reduced else (3, 4)
    tasks = [task for task in images(64, count, "test") if task.name in TASKS]
    methods = {**OURS, **COMPETITORS}
    note = ""
    if setting.reduced:
        methods = {name: methods[name] for name in ("ours, 4", "ours, 5, table", *COMPETITORS)}
        methods = {name: method.within(_REDUCED) for name, method in methods.items()}
        note = f"Reduced: nobody makes more than {_REDUCED} evaluations, so that nothing is judged."
    runs, left_out, begin = [], [], setting.left
    for name, method in methods.items():
        for task in tasks:
            if setting.left < 0.4 * begin:
                left_out.append(f"{name} ({task.name})")
            elif method.refuse(task) is None:
                runs.append(equal_quality.measured(task, name, method, samples, setting.device))
    runs.sort(key=lambda run: TASKS.index(run.task))
    lines = equal_quality.lines(runs)
    if note:
        lines = [note, "", *lines]
    if left_out:
        lines += ["", f"Not run for lack of time: {', '.join(left_out)}."]
    found = equal_quality.verdicts(runs)
    reached = all(one.reached for one in found if one.competitor in equal_quality.AIMS)
    judged = None if setting.reduced else reached and not left_out
    return Outcome(judged, lines)
