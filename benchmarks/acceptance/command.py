"""``benchmarks acceptance``: all sections in the order of their importance, and one page.

tweedie-inverse benchmarks acceptance --device cuda
    ten minutes on a GPU
tweedie-inverse benchmarks acceptance --device cpu
    reduced sizes, a few minutes
tweedie-inverse benchmarks acceptance --device cuda --sections equality overhead --out page.md
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

import torch

from tweedie_inverse.app.distributed import ready_device
from tweedie_inverse.app.endings import WRONG
from tweedie_inverse.benchmarks.acceptance import equality
from tweedie_inverse.benchmarks.acceptance.bandwidth import SHARE, bandwidth
from tweedie_inverse.benchmarks.acceptance.competitors import competitors
from tweedie_inverse.benchmarks.acceptance.cost import (
    memory,
    overhead_of_adm,
    overhead_of_shipped,
    recovery,
)
from tweedie_inverse.benchmarks.acceptance.page import page
from tweedie_inverse.benchmarks.acceptance.ranks import ranks
from tweedie_inverse.benchmarks.acceptance.section import BAD, Section, Setting, judged
from tweedie_inverse.boundary.arguments import positive
from tweedie_inverse.priors.batches import IMAGE_BUFFERS
from tweedie_inverse.runtime.atomic import ready, replace

SECTIONS = (
    Section(
        "equality",
        "Equal to the CPU",
        f"samples of a seed differ by less than {equality.SAME:g} posterior standard deviations",
        equality.equality,
        least=20.0,
    ),
    Section(
        "overhead",
        "A solve over its network, shipped priors",
        "at most 1.05 on a GPU; on one thread of a CPU 1.15, and 1.2 for CT",
        overhead_of_shipped,
        least=30.0,
    ),
    Section(
        "adm",
        "A solve over its network, the size of ADM's",
        "as for shipped priors",
        overhead_of_adm,
        least=30.0,
    ),
    Section(
        "memory",
        "Memory",
        f"the forward pass and at most {IMAGE_BUFFERS} images a walker; the default batch fits",
        memory,
    ),
    Section(
        "recovery",
        "Out of memory",
        "smaller parts with a warning, and the same samples",
        recovery,
    ),
    Section(
        "autocast",
        "Faster networks",
        f"mean within {equality.SHIFT:g} standard errors, standard deviation within "
        f"{100 * equality.SPREAD:g} %, CRPS at most {100 * equality.WORSE:g} % higher (twice that "
        "of few samples)",
        equality.autocast,
    ),
    Section(
        "bandwidth",
        "Tomography over memory bandwidth",
        f"at least {100 * SHARE:g} % of a copy's",
        bandwidth,
    ),
    Section(
        "ranks",
        "Two processes",
        "the posterior of one",
        ranks,
    ),
    Section(
        "competitors",
        "Samples a second at equal CRPS",
        "15 times DiffPIR's with 100 evaluations, 200 times DPS's with 1000",
        competitors,
        least=30.0,
    ),
)


def add(commands: argparse._SubParsersAction) -> None:
    """The command and its options."""
    one = commands.add_parser("acceptance", help="does everything hold on this machine? one page")
    one.add_argument("--device", default="cpu", help="such as cuda")
    one.add_argument("--out", default="acceptance.md", help="the page, in Markdown")
    one.add_argument("--minutes", type=float, default=10.0, help="for everything; 10 by default")
    one.add_argument("--threads", type=int, default=1, help="on the CPU")
    one.add_argument(
        "--sections", nargs="+", metavar="NAME", help=", ".join(one.name for one in SECTIONS)
    )
    one.add_argument(
        "--reduced",
        action=argparse.BooleanOptionalAction,
        help="small sizes, by default on the CPU",
    )


def run(options: argparse.Namespace) -> None:
    """Write the page.

    Raises:
        ValueError: an unknown section or device, no time, or a page that cannot be written.
        SystemExit: code 2, a section failed or was not reached.
    """
    names = [one.name for one in SECTIONS]
    unknown = [name for name in options.sections or () if name not in names]
    if unknown:
        raise ValueError(f"--sections: there are {', '.join(names)}; got {', '.join(unknown)}")
    minutes = positive("benchmarks acceptance", "minutes", options.minutes)
    ready(options.out)
    device = ready_device(options.device, os.environ)
    torch.set_num_threads(options.threads)
    reduced = torch.device(device).type == "cpu" if options.reduced is None else options.reduced
    setting = Setting(device, reduced, 60 * minutes)
    chosen = [one for one in SECTIONS if not options.sections or one.name in options.sections]
    found = judged(chosen, setting, partial(print, flush=True))
    replace(Path(options.out), page(found, setting).encode())
    print(f"page: {Path(options.out).resolve()}")
    bad = [one for one in found if one.verdict in BAD]
    if bad:
        text = ", ".join(f"{one.section.name} ({one.verdict})" for one in bad)
        print(f"error: not accepted: {text}", file=sys.stderr)
        raise SystemExit(WRONG)
