"""Imports of the fork server, so that a command starts at once. Nothing is computed here."""

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

# numba imports most of its modules when the first kernel is loaded.
cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()
