"""Several processes or GPUs on one training, started by torchrun: each makes and learns its share of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from shared_pose_ros.network.allocator import tune_allocator
from shared_pose_ros.training.objective import LossTerms, Objective
from shared_pose_ros.training.synthesis import TrainingBatch


@dataclass(frozen=True)
class Processes:
    """This process among those of the training; alone by default."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that validates, logs and writes."""
        return self.rank == 0

    def share(self, batch_size: int) -> int:
        """Samples of a batch that each process makes; ValueError if they cannot be dealt out evenly."""
        if batch_size % self.count:
            raise ValueError(
                f"batch_size {batch_size} is no multiple of the {self.count} processes; change one of them"
            )
        return batch_size // self.count

    def agree(self, value: bool, device: torch.device) -> bool:
        """What the leader says: clocks differ, and all must stop at the same step."""
        if self.count == 1:
            return value
        word = torch.tensor([float(value)], device=device)
        dist.broadcast(word, src=0)
        return bool(word.item() > 0)

    def wait(self) -> None:
        """Until all are here: a next training may read what the leader has written."""
        if self.count > 1:
            dist.barrier()


@contextmanager
def joined_processes(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """Join the processes that torchrun started; without torchrun this process is alone.

    Args:
        device: chosen by the user; a CUDA device becomes the one of this process' local rank.

    Yields:
        The process' place and its device.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield Processes(), device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()


def set_threads(threads: int) -> None:
    """Threads of torch, 0 for half this process' share of the cores (synthesis has as many), and the allocator."""
    processes_here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    torch.set_num_threads(threads or max(1, (os.cpu_count() or 2) // (2 * processes_here)))
    tune_allocator()


class Loss(nn.Module):
    """Network and objective as one module, so that gradients can be averaged over processes."""

    def __init__(self, learner: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.learner, self.objective = learner, objective

    def forward(self, batch: TrainingBatch, progress: float) -> LossTerms:
        """See ``Objective.forward``."""
        terms: LossTerms = self.objective(self.learner, batch, progress)
        return terms


def averaged(loss: Loss, processes: Processes) -> nn.Module:
    """The module whose backward pass averages gradients over all processes; ``loss`` itself for one alone."""
    if processes.count == 1:
        return loss
    # Terms come and go with the schedule, and their parameters with them.
    return DistributedDataParallel(loss, find_unused_parameters=True)
