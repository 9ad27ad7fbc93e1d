"""Examples run, with small numbers."""

import runpy
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_own_operator(tmp_path):
    main = runpy.run_path(str(EXAMPLES / "own_operator.py"))["main"]
    picture = tmp_path / "picture.png"
    assert main(steps=10, num_samples=2, picture=str(picture)) > 15
    assert picture.exists()
