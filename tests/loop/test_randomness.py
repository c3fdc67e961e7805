import numpy as np
import pytest
import torch

from reidkit.distributed import ProcessGroup
from reidkit.loop import create_fabric
from reidkit.loop.randomness import continue_draws, draws_so_far, start_draws, streams

CPU = torch.device("cpu")


def draws(rank: int, before: int = 0, count: int = 3) -> torch.Tensor:
    """What a process draws in epoch 2 of a run with seed 5, after so many draws."""
    start_draws(5, 2, ProcessGroup(None, rank, 2))
    torch.rand(before)
    return torch.rand(count)


def states(processes: int, before: int) -> dict[str, torch.Tensor | None]:
    """What `draws_so_far` gives in a run of so many processes, each after so many draws."""
    rows = []
    for rank in range(processes):
        draws(rank, before, 0)
        rows.append(torch.get_rng_state())
    return {"torch": torch.stack(rows), "cuda": None}


def test_epochs_and_purposes_have_streams_of_their_own() -> None:
    drawn = [np.random.default_rng(stream).random() for epoch in (1, 2) for stream in streams(5, epoch)]
    assert len(set(drawn)) == 4
    assert [np.random.default_rng(stream).random() for stream in streams(5, 2)] == drawn[2:]


def test_processes_draw_differently() -> None:
    assert not torch.equal(draws(0), draws(1))


def test_one_process_goes_on_where_it_was() -> None:
    team = ProcessGroup.of_fabric(create_fabric("cpu", "32"))
    start_draws(5, 2, team)
    torch.rand(7)
    state, expected = draws_so_far(team, CPU), torch.rand(3)
    assert state["torch"] is not None
    assert state["torch"].shape == (1, len(torch.get_rng_state()))
    assert state["cuda"] is None
    torch.rand(4)
    continue_draws(state, 5, 2, team, CPU)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_every_process_goes_on_where_it_was_and_a_new_one_starts(rank: int) -> None:
    state = states(2, before=7)
    continue_draws(state, 5, 2, ProcessGroup(None, rank, 3), CPU)
    assert torch.equal(torch.rand(3), draws(rank, 7 if rank < 2 else 0))
