"""Pipelines on the hub: download what a prior needs, and give up on a hub that does not answer."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tweedie_inverse.priors.formats.base import tell

# Seconds that the hub may take for an answer, unless the environment says otherwise.
_PATIENCE = 20.0
_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_SHARDS = ("diffusion_pytorch_model-*-of-*.safetensors", "diffusion_pytorch_model-*-of-*.bin")
_VARIANTS = ("diffusion_pytorch_model*.safetensors",)


def fetch(name: str, revision: str | None) -> Path:
    """Download a pipeline's configurations and weights from the hub, or find them in its cache.

    Raises:
        ImportError: huggingface_hub is not installed.
        ValueError: no connection, no answer, no such repository or revision.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ImportError(
            f"load_prior({name!r}): looks like a hub id, which needs huggingface_hub and diffusers "
            "(pip install diffusers)"
        ) from error
    try:
        if not _answers(name):
            return _cached(name, revision)
        with _impatient():
            folder = Path(
                snapshot_download(
                    name, revision=revision, allow_patterns=_patterns(*_WEIGHTS, *_SHARDS)
                )
            )
            if not any(folder.glob("**/diffusion_pytorch_model*")):  # variants only
                snapshot_download(name, revision=folder.name, allow_patterns=_patterns(*_VARIANTS))
    except Exception as error:  # its own errors derive from many libraries'
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"load_prior({name!r}): no such file or shipped prior here, and the hub did not give "
            f"it ({reason}); download the folder where there is a connection and pass its path"
        ) from error
    if revision is None:
        tell(
            f"load_prior({name!r}): the hub's newest revision may change under you; pin this one "
            f"with revision={folder.name!r}"
        )
    return folder


def _patterns(*weights: str) -> list[str]:
    return ["*.json", *(f"**/{pattern}" for pattern in weights), *weights]


def _answers(name: str) -> bool:
    """Whether the hub says anything in time; the library's own calls wait and try again."""
    import huggingface_hub

    session: Any = getattr(huggingface_hub, "get_session", lambda: None)()
    if session is None:
        return True
    address = f"{huggingface_hub.constants.ENDPOINT}/api/models/{name}"
    try:
        session.get(address, timeout=_patience())
    except Exception as error:  # anything but silence is for the download to say
        return "timeout" not in type(error).__name__.lower()
    return True


def _cached(name: str, revision: str | None) -> Path:
    """What an earlier download left."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except Exception:
        raise TimeoutError(f"it did not answer within {_patience():g} seconds") from None


def _patience() -> float:
    return float(os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT", _PATIENCE))


@contextmanager
def _impatient() -> Iterator[None]:
    """The hub's own session waits for ever; here it waits `_PATIENCE` seconds for each answer."""
    import huggingface_hub

    session: Any = getattr(huggingface_hub, "get_session", lambda: None)()
    if not hasattr(session, "timeout"):  # older versions have time-outs of their own
        yield
        return
    before = session.timeout
    session.timeout = _patience()
    try:
        yield
    finally:
        session.timeout = before
