"""How a network is run: autocast, channels-last weights, compilation, CUDA graphs, each by option.

Compiled and captured networks are made for one shape of their arguments.  Their batches are filled
up to a size that exists already, so that a last, smaller batch makes no new one; by the contract of
a network (`boundary.contracts`) the rows of a batch do not know each other.  Gradients take the
network as it is, under the same autocast: a captured graph has none.
"""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tweedie_inverse.boundary.arguments import choice, count, flag
from tweedie_inverse.priors.base import ROUNDOFF, TF32_ROUNDOFF
from tweedie_inverse.priors.modules import device_of, floating_weight

Autocast = Literal["bf16", "fp16"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# A batch is filled up to a size that exists if that is at most so many times as large.
_MOST_FILLED = 16
# Calls before a capture, in which libraries choose their algorithms.
_WARM_UPS = 3


@dataclass(frozen=True)
class Execution:
    """How a network is run; `str` says what is on.

    Attributes:
        autocast: the number type that matrix products and convolutions are rounded to; the noise
            label, the scaling of input and output, and everything round the network are not.
        channels_last: whether weights and images are laid out with the channels innermost.
        compiler: backend of `torch.compile`; empty for none.
        graphs: whether each shape is captured once as a CUDA graph, and replayed.
        batch: images that a compiled or captured network is given at once; None is the sizes that
            it meets.
    """

    autocast: Autocast | None = None
    channels_last: bool = False
    compiler: str = ""
    graphs: bool = False
    batch: int | None = None

    @property
    def is_static(self) -> bool:
        """Whether batches are filled up to fixed sizes."""
        return bool(self.compiler) or self.graphs

    def __str__(self) -> str:
        parts = [
            self.autocast and f"autocast {self.autocast}",
            self.channels_last and "channels last",
            self.compiler and f"compiled by {self.compiler}",
            self.graphs and "CUDA graphs",
            self.batch and f"batches of {self.batch}",
        ]
        return ", ".join(part for part in parts if part)


def checked_execution(
    caller: str,
    module: nn.Module,
    shape: tuple[int, ...],
    *,
    autocast: str | None,
    channels_last: bool,
    compile: bool | str,
    graphs: bool,
    batch: int | None,
) -> Execution:
    """The settings, if the network can be run so; raises as `NetworkPrior.faster` says."""
    device, weight = device_of(module), floating_weight(module)
    if autocast is not None:
        choice(caller, "autocast", autocast, list(_DTYPES))
        if not torch.amp.is_autocast_available(device.type):
            raise ValueError(f"{caller}(autocast={autocast!r}): torch has none on {device.type}")
        if weight.dtype == torch.float64:
            raise ValueError(
                f"{caller}(autocast={autocast!r}): autocast leaves the float64 weights of "
                f"{type(module).__name__} as they are; convert them first (module.float())"
            )
    if flag(caller, "channels_last", channels_last) and len(shape) != 3:
        raise ValueError(
            f"{caller}(channels_last=True): needs images (channels, height, width), got {shape}"
        )
    compiler = _compiler(caller, compile)
    if flag(caller, "graphs", graphs) and device.type != "cuda":
        raise ValueError(
            f"{caller}(graphs=True): needs a network on a CUDA device, but {type(module).__name__} "
            f"is on {device}; leave graphs= out, or move it there first"
        )
    if batch is not None:
        batch = count(caller, "batch", batch, need="a positive number of images")
        if not compiler and not graphs:
            raise ValueError(
                f"{caller}(batch={batch}): is the fixed size for compile=True and graphs=True; "
                "solve(batch_size=) limits the walkers that run together"
            )
    return Execution(autocast, bool(channels_last), compiler, bool(graphs), batch)  # type: ignore[arg-type]


def _compiler(caller: str, compile: bool | str) -> str:
    """The backend's name; empty for none."""
    if isinstance(compile, str):
        return choice(caller, "compile", compile, _backends())
    return "inductor" if flag(caller, "compile", compile) else ""


def _backends() -> list[str]:
    import torch._dynamo

    return [*torch._dynamo.list_backends(None)]


class FastNetwork(nn.Module):
    """``forward(x, label)`` of a network, run as `how` says; the network itself stays as it is.

    Args:
        network: called with ``(batch, *shape)`` and ``label (batch,)``, and what else a batch has.

    Attributes:
        network: the given one, or for channels-last a copy of it that shares all weights but those
            of convolutions.
    """

    def __init__(self, network: nn.Module, how: Execution):
        super().__init__()
        self.network = _in_channels_last(network) if how.channels_last else network
        self.training = network.training  # not by train(), which reaches into the network
        self.how = how
        self._forget()

    def _forget(self) -> None:
        self._sizes: dict[torch.Size, list[int]] = {}
        self._compiled: list[Callable[..., Tensor]] = []  # in a list, or torch takes it for a part
        self._graphs: dict[Any, _Graph] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Neither compiled code nor captured graphs can be copied; they are made anew."""
        made = ("_sizes", "_compiled", "_graphs")
        return {name: value for name, value in self.__dict__.items() if name not in made}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget()

    def forward(self, x: Tensor, *told: Tensor) -> Tensor:
        if not self.how.is_static or _is_differentiated(self.network, (x, *told)):
            return self._evaluated(self.network, x, *told)
        with torch.inference_mode(False), torch.no_grad():  # one mode, or each has code of its own
            size = self._size(x)
            if size >= len(x):
                return self._static(size, x, *told)
            parts = zip(*(values.split(size) for values in (x, *told)), strict=True)
            return torch.cat([self._static(size, *part) for part in parts])

    def _size(self, x: Tensor) -> int:
        """Of the batch that x is filled up to; smaller than x for parts of it."""
        if self.how.batch is not None:
            return self.how.batch
        known = self._sizes.setdefault(x.shape[1:], [])
        fitting = [size for size in known if len(x) <= size <= _MOST_FILLED * len(x)]
        if not fitting:
            known.append(len(x))
        return min(fitting, default=len(x))

    def _static(self, size: int, *given: Tensor) -> Tensor:
        """The answer to a batch of at most `size`, made of one of that size."""
        filled = [_filled(values, size) for values in given]
        if not self.how.graphs:
            return self._evaluated(self._code(), *filled)[: len(given[0])]
        key = tuple((values.shape, values.dtype, values.device) for values in filled)
        if key not in self._graphs:
            call = lambda *given: self._evaluated(self._code(), *given)  # noqa: E731
            try:
                self._graphs[key] = _Graph(call, filled)
            except torch.OutOfMemoryError:
                self._graphs.clear()  # each holds the memory of its batch; a smaller one comes next
                raise
        return self._graphs[key](*filled)[: len(given[0])]

    def _code(self) -> Callable[..., Tensor]:
        """The network, compiled where it is to be."""
        if not self.how.compiler:
            return self.network
        if not self._compiled:
            made = torch.compile(self.network, backend=self.how.compiler, dynamic=False)
            self._compiled.append(made)
        return self._compiled[0]

    def _evaluated(self, call: Callable[..., Tensor], x: Tensor, *told: Tensor) -> Tensor:
        if self.how.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with self._autocast(x.device.type):
            try:
                answer = call(x, *told)
            except Exception as error:
                if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                    raise
                reason = str(error).strip().split("\n")[0][:200]
                raise RuntimeError(
                    f"NetworkPrior.faster(compile=): {self.how.compiler} cannot compile "
                    f"{type(self.network).__name__} here ({reason}); leave compile= out"
                ) from error
        if self.how.channels_last and isinstance(answer, Tensor):
            return answer.contiguous()  # the walk's reshaping would copy it again and again
        return answer

    def _autocast(self, device: str) -> AbstractContextManager[Any]:
        if self.how.autocast is None:
            return nullcontext()
        # Weights rounded in a capture would be kept beyond it by autocast's cache.
        return torch.autocast(device, dtype=_DTYPES[self.how.autocast], cache_enabled=False)


class _Graph:
    """A function of tensors on a CUDA device, captured once for their shapes."""

    def __init__(self, call: Callable[..., Tensor], given: list[Tensor]):
        self._given = [values.clone() for values in given]
        self._answer, self._replay = captured(call, self._given)

    def __call__(self, *given: Tensor) -> Tensor:
        for place, values in zip(self._given, given, strict=True):
            place.copy_(values)
        self._replay()
        return self._answer.clone()  # the next replay writes over it


def captured(call: Callable[..., Tensor], given: list[Tensor]) -> tuple[Tensor, Callable[[], None]]:
    """The place of the answer to what lies in `given`, and what computes it again.

    Raises:
        RuntimeError: the function waits for the device, or does what a graph cannot hold.
        torch.OutOfMemoryError: there is no room for it.
    """
    with torch.cuda.device(given[0].device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                call(*given)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                answer = call(*given)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if isinstance(error.__context__, torch.OutOfMemoryError):
                raise error.__context__ from error
            reason = str(error).strip().split("\n")[0][:200]
            raise RuntimeError(
                f"NetworkPrior.faster(graphs=True): the network cannot be captured ({reason}); it "
                "may read numbers back or branch on them. Leave graphs= out"
            ) from error
    return answer, graph.replay


def precision_of(module: nn.Module, like: torch.dtype) -> torch.dtype:
    """The number type of a network's products: that of its weights, `like`, or of its autocast."""
    types = [
        _DTYPES[part.how.autocast]
        for part in module.modules()
        if isinstance(part, FastNetwork) and part.how.autocast is not None
    ]
    return types[0] if types else like


def roundoff_of(precision: torch.dtype, device: torch.device) -> float:
    """Relative rounding of a network's answers: half precision's, TF32's or better."""
    if precision == torch.float32 and device.type == "cuda" and _has_tf32():
        return TF32_ROUNDOFF
    return ROUNDOFF.get(precision, ROUNDOFF[torch.float32])


def _has_tf32() -> bool:
    """Whether convolutions or products of float32 are rounded to ten bits, torch's default."""
    try:
        return torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
    except RuntimeError:  # set by torch's older and by its newer settings: it does not say
        return True


def fixed_batch(module: nn.Module) -> int | None:
    """How many images a network is always given at once; None where that varies."""
    for part in module.modules():
        if isinstance(part, FastNetwork):
            return part.how.batch
    return None


def _filled(values: Tensor, size: int) -> Tensor:
    """A batch of `size`, its last row repeated: rows of zeros might be no image and no label."""
    if len(values) == size:
        return values
    return torch.cat([values, values[-1:].expand(size - len(values), *values.shape[1:])])


def _is_differentiated(network: nn.Module, given: tuple[Tensor, ...]) -> bool:
    """Whether anybody may ask for a derivative of the answer, backward or forward."""
    if any(torch._C._functorch.is_functorch_wrapped_tensor(values) for values in given):
        return True
    if any(torch.autograd.forward_ad.unpack_dual(values).tangent is not None for values in given):
        return True
    if not torch.is_grad_enabled():
        return False
    return any(values.requires_grad for values in (*given, *network.parameters()))


def _in_channels_last(network: nn.Module) -> nn.Module:
    """A copy whose convolutions have their weights laid out so; all others are shared."""
    weights = (*network.parameters(), *network.buffers())
    shared: dict[int, Any] = {id(weight): weight for weight in weights if weight.ndim != 4}
    copied = copy.deepcopy(network, shared)
    for weight in (*copied.parameters(), *copied.buffers()):
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return copied
