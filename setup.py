"""Where the packages lie: `operators` and `benchmarks` are folders at the top of the repository.

They are installed and imported as `tweedie_inverse.operators` and `tweedie_inverse.benchmarks`.
The mapping here serves wheels, source distributions and editable installs; the links of the same
names in `tweedie_inverse/` serve type checkers, editors and runs without an install.
docs/architecture.md compares this with the alternatives.
"""

from setuptools import find_packages, setup

PACKAGE = "tweedie_inverse"
AT_THE_TOP = ("benchmarks", "operators")

inside = [
    f"{PACKAGE}.{name}"
    for name in find_packages(PACKAGE)
    if name.split(".")[0] not in AT_THE_TOP  # found through the links
]
outside = [
    f"{PACKAGE}.{name}"
    for folder in AT_THE_TOP
    for name in [folder, *(f"{folder}.{inner}" for inner in find_packages(folder))]
]
setup(
    packages=[PACKAGE, *inside, *outside],
    package_dir={PACKAGE: PACKAGE, **{f"{PACKAGE}.{folder}": folder for folder in AT_THE_TOP}},
)
