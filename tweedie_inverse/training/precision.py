"""Reduced precision of the forward and backward pass; weights and optimizer stay in float32."""

import torch

PRECISIONS = ("fp32", "bf16", "fp16")
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Below this scale the gradients are not too large for half precision, but not finite at all.
LEAST_SCALE = 2.0**-4


def reduced(precision: str, device: torch.device) -> torch.autocast:
    """The context of a pass, for a name of `PRECISIONS`."""
    dtype = _TYPES.get(precision, torch.bfloat16)
    return torch.autocast(device.type, dtype, enabled=precision in _TYPES)


def loss_scaler(precision: str, device: str) -> torch.amp.GradScaler:
    """Half precision loses small gradients unless the loss is scaled up; others need no scale."""
    return torch.amp.GradScaler(
        torch.device(device).type, init_scale=2.0**12, enabled=precision == "fp16"
    )
