"""Checksums of files and folders, for what must be the same when a run goes on."""

import hashlib
from pathlib import Path


def checksum(path: str | Path) -> str:
    """SHA-256 of a file's content, or of the names and contents of all files of a folder."""
    path = Path(path)
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for one in sorted(path.rglob("*")):
        if one.is_file():
            digest.update(f"{one.relative_to(path).as_posix()} {checksum(one)}\n".encode())
    return digest.hexdigest()
