"""Files that are there as a whole or not at all, so that a killed run leaves none half written."""

import os
from pathlib import Path
from uuid import uuid4


def replace(path: Path, content: bytes) -> None:
    """Write a file in one stroke: its old content, or none, until all of the new one is there.

    Any number of threads, processes and hosts may write the same file; the last one stays.
    """
    # Not by `tempfile`, whose files only their owner may read: this one has ordinary permissions.
    temporary = path.with_name(f".{uuid4().hex}.part")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
