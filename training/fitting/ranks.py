"""Which of several processes this one is, and sums over all of them.

A training on several GPUs or machines is as many processes, told of each other by the environment variables
of `torchrun`: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, distributed

from model_zoo.errors import SRPUError


class BadRanks(SRPUError):
    """Processes that cannot share a training."""


@dataclass(frozen=True)
class Ranks:
    """This process's place among those of one training."""

    rank: int = 0
    count: int = 1
    local_count: int = 1
    """Of them on this machine."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Ranks:
        """As `torchrun` tells it; one process alone where nothing is told. Raises `BadRanks`."""
        if "RANK" not in environment or "WORLD_SIZE" not in environment:
            return cls()
        try:
            count = int(environment["WORLD_SIZE"])
            local_count = int(environment.get("LOCAL_WORLD_SIZE", count))
            rank = int(environment["RANK"])
        except ValueError as error:
            raise BadRanks(f"RANK, WORLD_SIZE and LOCAL_WORLD_SIZE must be whole numbers: {error}.") from None
        if not 0 <= rank < count or local_count < 1 or count % local_count:
            raise BadRanks(
                f"RANK is {rank} of WORLD_SIZE {count}, {local_count} on each machine (LOCAL_WORLD_SIZE): "
                "that is no place among equal machines; start all processes with torchrun."
            )
        return cls(rank, count, local_count)

    @property
    def is_first(self) -> bool:
        """The first process alone writes files and reports."""
        return self.rank == 0

    @property
    def machines(self) -> int:
        """Number of machines."""
        return self.count // self.local_count

    def share(self, batch_size: int) -> int:
        """Crops of a step that each process takes; raises `BadRanks` where they cannot be shared evenly."""
        if batch_size % self.count or batch_size < self.count:
            better = max(1, round(batch_size / self.count)) * self.count
            raise BadRanks(
                f"`batch_size` is {batch_size}, which {self.count} processes cannot share evenly; set it to "
                f"{better}."
            )
        return batch_size // self.count


def summed_over_ranks(values: Tensor) -> Tensor:
    """The sum of `values`, of any shape, over all processes, each of which back-propagates into its own.

    Divided by nothing, the gradients of a loss made of such sums add up over the processes to those that one
    process would have; see `gradient_for_mean`.
    """
    if count_of_ranks() == 1:
        return values
    total = values.detach().clone()
    distributed.all_reduce(total)
    return total + (values - values.detach())


def gradient_for_mean(loss: Tensor) -> Tensor:
    """`loss`, with its gradient times the number of processes: DDP takes their mean where we want the sum."""
    count = count_of_ranks()
    return loss if count == 1 else loss * count - loss.detach() * (count - 1)


def count_of_ranks() -> int:
    """How many processes share this training at this moment."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1
