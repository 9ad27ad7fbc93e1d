"""Files that are there as a whole or not at all, so that a killed run leaves none half written."""

import os
from pathlib import Path


def replace(path: Path, content: bytes) -> None:
    """Write a file in one stroke: its old content, or none, until all of the new one is there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)
