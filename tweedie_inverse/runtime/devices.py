"""Whether there is the device that a user names: found out before any work."""

import torch


def usable(name: str) -> str:
    """The name of a device, which was tried.

    Raises:
        ValueError: torch does not know it, or this machine lacks it.
    """
    try:
        if torch.device(name).type == "meta":
            raise RuntimeError("a meta device holds no numbers")
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        gpus = torch.cuda.device_count()
        seen = f"cpu and {gpus} of cuda:0 to cuda:{gpus - 1}" if gpus else "cpu"
        reason = str(error).split(". ")[0].split("\n")[0][:80]
        raise ValueError(
            f"--device {name}: torch sees no such device on this machine, or cannot use it "
            f"({reason}); it sees {seen}"
        ) from error
    return name
