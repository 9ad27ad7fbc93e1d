"""The page: a summary with the machine, and what each section found."""

from collections.abc import Sequence

import torch

from tweedie_inverse.benchmarks.acceptance.section import Judged, Setting, table
from tweedie_inverse.benchmarks.harness.records import provenance


def page(found: Sequence[Judged], setting: Setting) -> str:
    """Markdown."""
    origin = provenance(setting.device)
    lines = ["# Acceptance", ""]
    if setting.kind == "cuda":
        lines.append(f"On {torch.cuda.get_device_name(setting.device)}; {origin['machine']}.")
    else:
        reason = "" if torch.cuda.is_available() else ", because no GPU was at hand"
        lines.append(
            f"On the CPU{reason}: {origin['machine']}. An accelerator's speed and memory are not "
            "measured."
        )
    if setting.reduced:
        lines.append(
            "Sizes are reduced: the page shows that every section runs, and its ratios are those "
            "of small images on a machine that may have been busy."
        )
    seconds = sum(one.seconds for one in found)
    lines += [
        "",
        f"{seconds:.0f} s of {setting.seconds:.0f}; commit {origin['commit']}; "
        f"{origin['versions']}.",
        "",
        *table(
            ["section", "target", "verdict", "seconds"],
            [
                (one.section.title, one.section.target, one.verdict, f"{one.seconds:.0f}")
                for one in found
            ],
        ),
    ]
    for one in found:
        lines += [
            "",
            f"## {one.section.title}: {one.verdict}",
            "",
            f"Target: {one.section.target}.",
        ]
        lines += ["", *one.lines]
    return "\n".join(lines) + "\n"
