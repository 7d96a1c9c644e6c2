"""The processes that train one model together, each on a device of its own: one, unless params ask for more.

They hold the same weights, and each looks at its share of every batch. The loss is that of the whole batch, so what is
learned depends on their number only by the order in which gradients are added up.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.params import Compute
from pipeline.project.errors import PipelineError
from pipeline.training import devices

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Item = TypeVar("Item")
PACE = 16  # steps between two messages from the first rank about the time
SPREAD = "ddp"  # the strategy that keeps whole weights on every device


@dataclass(frozen=True)
class Ranks:
    """number: of this process; only the first writes and speaks. world: how many there are."""

    number: int = 0
    world: int = 1
    fabric: "Fabric | None" = None

    @property
    def first(self) -> bool:
        return self.number == 0

    def asks(self, step: int) -> bool:
        """Is this a step at which the first rank tells the others what the clock says? Alone it costs nothing."""
        return self.world == 1 or step % PACE == 0

    def share(self, items: np.ndarray) -> np.ndarray:
        """This rank's part of them: neighbours, as many as every other rank has, or one more."""
        return np.array_split(items, self.world)[self.number]

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as training calls it: its gradients are the mean over ranks."""
        if self.fabric is None:
            return model
        if self.fabric.device.type == "cuda":
            model = synchronised(model)
        return self.fabric.setup_module(model, move_to_device=False)

    def join(self, rows: Tensor, count: int) -> Tensor:
        """The batch's (count, ...) rows from every rank's share of them; only this rank's own have a gradient."""
        if self.fabric is None:
            return rows
        sizes = [len(part) for part in np.array_split(np.arange(count), self.world)]
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows.detach()
        gathered = [torch.empty_like(padded) for _ in sizes]
        torch.distributed.all_gather(gathered, padded)
        parts = [part[:size] for part, size in zip(gathered, sizes, strict=True)]
        parts[self.number] = rows
        return torch.cat(parts)

    def gather(self, value: Item) -> list[Item]:
        """Every rank's value, in their order."""
        if self.fabric is None:
            return [value]
        values = [None] * self.world
        torch.distributed.all_gather_object(values, value)
        return values

    def broadcast(self, value: Item) -> Item:
        """The first rank's value."""
        return value if self.fabric is None else self.fabric.broadcast(value)

    def interleave(self, own: Iterator[Item], count: int) -> Iterator[Item]:
        """All of `count` items in order on every rank, of which rank r makes r, r + world, r + 2 world and so on."""
        for start in range(0, count, self.world):
            yield from self.gather(next(own, None))[: count - start]

    def agree_on(self, buffers: Iterator[Tensor]) -> None:
        """Give every rank the first one's buffers, such as the statistics of batch normalisation."""
        if self.fabric is not None:
            for buffer in buffers:
                torch.distributed.broadcast(buffer, 0)


ALONE = Ranks()


def synchronised(model: nn.Module) -> nn.Module:
    """The model with batch norms that have the statistics of all ranks' batches; it may be changed in place.

    By timm, whose batch norms hold the activation that follows, which torch's own conversion would drop.
    """
    from timm.layers import convert_sync_batchnorm

    return convert_sync_batchnorm(model)


def start(settings: Compute) -> tuple[Ranks, torch.device]:
    """Start the other processes that params ask for, unless torchrun or SLURM has; who this one is, and its device.

    Each of them runs this very command. With one device nothing is started, and Fabric, which takes a second to import,
    is not needed.
    """
    device = devices.device(settings)
    if settings.devices * settings.num_nodes == 1:
        return ALONE, device
    from lightning_fabric import Fabric
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    try:
        fabric = Fabric(
            accelerator=device.type, devices=settings.devices, num_nodes=settings.num_nodes, strategy=SPREAD
        )
        fabric.launch()
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        asked = f"`compute.devices` {settings.devices} and `compute.num_nodes` {settings.num_nodes}"
        raise PipelineError(f"{asked} can't be had here: {str(error).splitlines()[0]}") from None
    return Ranks(fabric.global_rank, fabric.world_size, fabric), fabric.device
