"""Random numbers of an epoch: all derive from the run's seed, the epoch and, for drop path, the process."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reidkit.distributed import ProcessGroup

__all__ = ["continue_draws", "draws_so_far", "start_draws", "streams"]


def streams(seed: int, epoch: int) -> list[np.random.SeedSequence]:
    """One stream per purpose, sampling and augmentation: drawing more of one never shifts the other."""
    return np.random.SeedSequence([seed, epoch]).spawn(2)


def start_draws(seed: int, epoch: int, group: ProcessGroup) -> None:
    """Seed the model's own randomness (drop path) for an epoch, other than that of every other process."""
    key = [seed, epoch, group.rank] if group.rank else [seed, epoch]
    torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))


def draws_so_far(group: ProcessGroup, device: torch.device) -> dict[str, Tensor | None]:
    """The state of the model's own randomness inside an epoch: a row of bytes for each of P processes; collective."""

    def of_all(state: Tensor) -> Tensor:
        return group.gather_batch(state[None].to(device), group.size).cpu()

    cuda = of_all(torch.cuda.get_rng_state(device)) if device.type == "cuda" else None
    return {"torch": of_all(torch.get_rng_state()), "cuda": cuda}


def continue_draws(state: Mapping[str, Any], seed: int, epoch: int, group: ProcessGroup, device: torch.device) -> None:
    """Go on where `draws_so_far` was; a process or a GPU that was not there starts the draws of the epoch.

    Args:
        state: From `draws_so_far`.
        seed: The run's.
        epoch: Counted from 1.
        group: The processes, perhaps another number than before.
        device: Of this process.
    """
    start_draws(seed, epoch, group)
    if group.rank < len(state["torch"]):
        torch.set_rng_state(state["torch"][group.rank].clone())  # torch crashes on a row of a larger tensor
        if state["cuda"] is not None and device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"][group.rank].clone(), device)
