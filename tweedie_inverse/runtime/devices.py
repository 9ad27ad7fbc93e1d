"""Whether there is the device that a user names: found out before any work."""

from typing import Any

import torch


def usable(name: Any, caller: str = "") -> Any:
    """The name of a device, which was tried.

    Args:
        caller: for the message, of which function ``device=`` is an argument; else ``--device``.

    Raises:
        ValueError: torch does not know it, or this machine lacks it.
    """
    try:
        if torch.device(name).type == "meta":
            raise RuntimeError("a meta device holds no numbers")
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        gpus = torch.cuda.device_count()
        seen = f"cpu and {gpus} of cuda:0 to cuda:{gpus - 1}" if gpus else "cpu"
        reason = str(error).split(". ")[0].split("\n")[0][:80]
        asked = f"{caller}(device={name!r})" if caller else f"--device {name}"
        raise ValueError(
            f"{asked}: torch sees no such device on this machine, or cannot use it "
            f"({reason}); it sees {seen}"
        ) from error
    return name
