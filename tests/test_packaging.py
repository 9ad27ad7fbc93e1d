"""What the wheel holds, read from setuptools' own plan of it, without building one."""

import subprocess
import tomllib
from pathlib import Path

import pytest

from tweedie_inverse.priors.zoo import WEIGHTS_FOLDER

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FOLDERS = ("tweedie_inverse", "operators", "benchmarks")


@pytest.fixture(scope="module")
def planned():
    """Files of the wheel, modules and data, relative to the repository."""
    import setuptools  # noqa: F401  (it must come before distutils, which it replaces)

    from distutils.core import run_setup  # isort: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        build = run_setup("setup.py", stop_after="config").get_command_obj("build_py")
        build.ensure_finalized()
        found = [path for _, _, path in build.find_all_modules()]
        found += [
            str(Path(folder, name)) for _, folder, _, names in build.data_files for name in names
        ]
        return [(ROOT / path).resolve().relative_to(ROOT) for path in found]


def in_the_checkout():
    """Files of the package's folders that git knows or would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *FOLDERS]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip("not a checkout")
    paths = {Path(line) for line in found.stdout.splitlines()}
    return {path for path in paths if not (ROOT / path).is_symlink() and (ROOT / path).exists()}


def test_the_wheel_holds_the_packages_files_and_nothing_else(planned):
    """A template or a table that a new folder brings is forgotten in `package-data` no longer."""
    assert len(planned) == len(set(planned))
    assert set(planned) == in_the_checkout()
    assert not [path for path in planned if "tests" in path.parts or "__pycache__" in path.parts]


def test_the_shipped_priors_are_in_it(planned):
    weights = {path.resolve().relative_to(ROOT) for path in WEIGHTS_FOLDER.glob("*.safetensors")}
    assert len(weights) >= 6
    assert weights <= set(planned)


def test_what_it_says_of_python():
    """Classifiers name each version from `requires-python` on."""
    least = PROJECT["requires-python"].removeprefix(">=")
    assert least == "3.11"
    named = [
        line.rpartition(" ")[2] for line in PROJECT["classifiers"] if ":: Python :: 3." in line
    ]
    assert named == ["3.11", "3.12", "3.13", "3.14"]
