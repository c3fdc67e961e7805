"""What the fork server imports before it forks, so that a command starts at once. It computes nothing."""

from importlib import import_module

from numba.core.registry import cpu_target

for name in (
    "reidkit.cli.runs",
    "reidkit.pretrain",
    "reidkit.supervised",
    "reidkit.uda",
    "reidkit.usl",
    "sklearn.decomposition",
    "tensorboard.compat.proto.event_pb2",
    "tests.faults.commands",
):
    import_module(name)

# numba imports most of itself when the first kernel is loaded.
cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()
