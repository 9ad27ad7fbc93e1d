"""From an EDM or EDM2 pickle to a safetensors file, without running the code in the pickle.

These pickles carry the source of their classes, which an ordinary reader executes.  This one knows
nothing but tensors, containers and the records of which such a network consists: their weights and
settings are kept, their source is dropped, and anything else is refused.  It works in a process of
its own, which ends with it.
"""

import io
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import path as checked_path
from tweedie_inverse.runtime.atomic import replace


def convert(pickled: str | Path, out: str | Path) -> Path:
    """Convert ``network-snapshot.pkl`` to safetensors; returns the new file.

    Raises:
        ValueError: no such file, not such a pickle, or something in it that is refused.
    """
    pickled = checked_path("convert", "pickled", pickled).resolve()
    out = checked_path("convert", "out", out).resolve()
    if not pickled.is_file() or out.suffix != ".safetensors":
        raise ValueError(
            f"convert: needs a pickle that exists and an output .safetensors, got {pickled} and "
            f"{out}"
        )
    root = str(Path(__file__).resolve().parents[3])
    with tempfile.TemporaryDirectory() as nowhere:
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(pickled), str(out)],
            cwd=nowhere,
            env={**os.environ, "PYTHONPATH": root},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ValueError(f"convert: {pickled} was not converted: {reason}")
    return out


class _Part:
    """A module of the network, as a record: parameters, buffers, parts, class and settings."""

    kind = ""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def tensors(self, prefix: str = "") -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name in ("_parameters", "_buffers"):
            for key, value in vars(self).get(name, {}).items():
                if value is not None:
                    found[prefix + key] = value.detach().clone().contiguous()
        for key, part in vars(self).get("_modules", {}).items():
            if part is not None:
                found |= part.tensors(f"{prefix}{key}.")
        return found


class _Fields(dict):
    """A dictionary with attributes, there; a dictionary, here."""

    def __setstate__(self, state: Any) -> None:
        """Its attributes are its items."""


def _record(meta: dict[str, Any]) -> _Part:
    part = _Part()
    part.__setstate__(dict(meta["state"]))
    part.kind = str(meta["class_name"])
    return part


def _storage(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


class _Reader(pickle.Unpickler):
    """Knows these names and no others."""

    known = {  # noqa: RUF012
        ("collections", "OrderedDict"): OrderedDict,
        ("dnnlib.util", "EasyDict"): _Fields,
        ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
        ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
        ("torch.storage", "_load_from_bytes"): _storage,
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): _record,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.known:
            return self.known[module, name]
        if module.startswith("torch.nn.modules.") and "." not in name:
            return _Part
        reason = "which is no part of a network"
        if module.split(".")[0] == "numpy":
            reason = "of which latent networks have some; latent priors are not supported yet"
        raise pickle.UnpicklingError(f"refused {module}.{name}, {reason}")


def _main(pickled: str, out: str) -> None:
    from safetensors.torch import save

    with open(pickled, "rb") as file:
        content = _Reader(file).load()
    network = content["ema"] if isinstance(content, dict) and "ema" in content else content
    if not isinstance(network, _Part) or not network.tensors():
        raise ValueError("no network in it, looked for 'ema'")
    settings = {
        "class": network.kind,
        "settings": {k: v for k, v in vars(network).get("_init_kwargs", {}).items() if _plain(v)},
    }
    replace(Path(out), save(network.tensors(), metadata={"edm": json.dumps(settings)}))


def _plain(value: Any) -> bool:
    return isinstance(value, int | float | str | bool | list | tuple | None)


if __name__ == "__main__":
    _main(*sys.argv[1:])
