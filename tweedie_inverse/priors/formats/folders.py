"""Folders that are no diffusers pipeline: what is in them, and what to give instead.

Checkpoints of accelerate, of Lightning and of other training runs are files in folders.  Which one
is meant is the user's to say; which ones there are is said here.
"""

from pathlib import Path

from tweedie_inverse.priors.formats.base import Source

_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".pkl", ".onnx", ".eqx", ".msgpack")
# Files of a training run that hold no network.
_STATES = ("optimizer", "scheduler", "scaler", "random_states", "rng", "training_args", "sampler")


def look_into(source: Source) -> None:
    """Raise a `ValueError` that names the checkpoint files in a folder, newest first.

    Nothing happens where there are none.
    """
    assert source.folder is not None
    files = _checkpoints(source.folder)
    if not files:
        return
    names = ", ".join(str(file.relative_to(source.folder)) for file in files[:3])
    kind = ""
    if (source.folder / "checkpoints").is_dir() and files[0].suffix == ".ckpt":
        kind = " of a Lightning run"
    elif any(source.folder.glob("random_states_*")) or (source.folder / "optimizer.bin").is_file():
        kind = " of an accelerate run"
    raise ValueError(
        f"load_prior({source.name!r}): a folder{kind} without model_index.json or config.json; it "
        f"has {len(files)} file(s) of weights, newest first {names}. Give the file: "
        f"load_prior({str(source.folder / files[0].relative_to(source.folder))!r})"
    )


def _checkpoints(folder: Path) -> list[Path]:
    """Files of weights in a folder and two levels below it, newest first."""
    found = [
        file
        for pattern in ("*", "*/*", "*/*/*")
        for file in folder.glob(pattern)
        if file.suffix in _SUFFIXES and file.is_file() and not file.name.startswith(_STATES)
    ]
    return sorted(found, key=lambda file: (-file.stat().st_mtime, str(file)))
