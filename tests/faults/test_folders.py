"""Full disks, missing folders and data, damaged checkpoints: a run recovers, or refuses with a clear message."""

import os
import resource
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.campaign import Campaign, differences, leftovers
from tests.faults.commands import Outcome
from tests.injected_faults import NOBODY, public

__all__ = ["public"]

CHECKPOINTS = ("checkpoints/last.pt", "checkpoints/previous.pt")


@pytest.fixture
def begun(usl: Campaign, tmp_path: Path) -> Path:
    """A run after two of the three epochs of the whole one."""
    return copied(usl, tmp_path / "run")


def copied(campaign: Campaign, folder: Path) -> Path:
    for part in ("", "-process"):
        shutil.copytree(campaign.scratch / f"two{part}", folder.with_name(f"{folder.name}{part}"))
    return folder


def resume(campaign: Campaign, folder: Path, fault: Callable[[], None] | None = None) -> Outcome:
    return campaign.run(folder, "--epochs", "3", fault=fault)


def assert_refused(outcome: Outcome, *words: str) -> None:
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.output
    assert [word for word in words if word not in outcome.output] == [], outcome.output


def assert_ends_as_the_whole_run(campaign: Campaign, folder: Path) -> Outcome:
    outcome = resume(campaign, folder)
    assert outcome.code == 0, outcome.output
    assert differences(folder, campaign.whole) == []
    assert leftovers(folder) == []
    return outcome


def full_disk() -> None:
    """No file may grow beyond 20,000 bytes; features and checkpoints would."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))


def test_a_full_disk_stops_the_run_which_then_goes_on(usl: Campaign, begun: Path) -> None:
    before = [(begun / name).read_bytes() for name in CHECKPOINTS]
    assert_refused(resume(usl, begun, full_disk), "could not be written", "Free some space")
    assert [(begun / name).read_bytes() for name in CHECKPOINTS] == before
    assert leftovers(begun) == []
    assert_ends_as_the_whole_run(usl, begun)


def without_privileges() -> None:
    if os.geteuid() == 0:
        os.seteuid(NOBODY)


@pytest.fixture
def closed(usl: Campaign, public: Path) -> Iterator[Path]:
    """A run in folders without permission to write."""
    folder = copied(usl, public / "run")
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
    (folder / ".lock").chmod(0o444)
    yield folder
    for path in folders:
        path.chmod(0o755)


def test_a_folder_that_cannot_be_written_is_refused(usl: Campaign, closed: Path) -> None:
    before = sorted(closed.rglob("*"))
    assert_refused(resume(usl, closed, without_privileges), "cannot be written (Permission denied)", "choose another")
    assert sorted(closed.rglob("*")) == before


def test_data_that_are_gone_are_named_and_the_run_goes_on_when_they_are_back(usl: Campaign, begun: Path) -> None:
    away = usl.people.rename(usl.people.with_name("away"))
    try:
        assert_refused(resume(usl, begun), str(usl.people))
    finally:
        away.rename(usl.people)
    assert_ends_as_the_whole_run(usl, begun)


def damage(path: Path) -> None:
    """Change one byte in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(usl: Campaign, begun: Path) -> None:
    damage(begun / CHECKPOINTS[0])
    outcome = assert_ends_as_the_whole_run(usl, begun)
    assert "last.pt is damaged: its checksum is another. Going on from" in outcome.output


def test_two_damaged_checkpoints_are_refused(usl: Campaign, begun: Path) -> None:
    for name in CHECKPOINTS:
        damage(begun / name)
    before = [(begun / name).read_bytes() for name in CHECKPOINTS]
    assert_refused(resume(usl, begun), "last.pt is damaged", "is not usable either", "--pretrained")
    assert [(begun / name).read_bytes() for name in CHECKPOINTS] == before


def test_a_finished_run_says_so(usl: Campaign, begun: Path) -> None:
    outcome = usl.run(begun)
    assert outcome.code == 0
    assert "the run is finished: all 2 epochs are done; a larger --epochs lengthens it" in outcome.output


def sigterm_at_once() -> None:
    """SIGTERM before there is a run folder."""
    from reidkit.runs import RunFolder

    setattr(RunFolder, "open", lambda path: signal.raise_signal(signal.SIGTERM))  # noqa: B010  (mypy)


def test_a_sigterm_before_anything_is_done_ends_the_command(usl: Campaign, begun: Path) -> None:
    outcome = resume(usl, begun, sigterm_at_once)
    assert outcome.code == 143
    assert outcome.output == "stopped by SIGTERM; nothing was being trained. Type the same again to go on"


def gpu_without_memory() -> None:
    """The first extraction of the resumed run meets a GPU whose memory is full."""
    import torch

    from reidkit.loop import trainer

    def extract(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2 GiB.\nGPU 0 has a total capacity of 8 GiB"
        )

    trainer.extract = extract  # type: ignore[assignment,attr-defined]


def test_a_run_whose_extraction_needs_too_much_memory_goes_on_with_smaller_batches(usl: Campaign, begun: Path) -> None:
    told = "features of 256 images at a time", "Tried to allocate 2 GiB.)", "--resume --set evaluation.batch_size=128"
    assert_refused(resume(usl, begun, gpu_without_memory), *told)
    done = usl.run(begun, "--epochs", "3", "--set", "evaluation.batch_size=128")
    assert done.code == 0, done.output
    assert differences(begun, usl.whole) == []
