"""Every command as a user types it."""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from reidkit.cli import cli
from tests.tiny import SETTINGS

TINY = [
    f"--set={section}.{name}={json.dumps(value)}"
    for section, values in SETTINGS.items()
    if section != "recipe"
    for name, value in values.items()
    if name != "epochs"
]
TINY += ["--set=warmup.epochs=0", "--epochs=2"]


def reidkit(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands write into a folder of their own; logging is left as it was found."""
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("reidkit")
    level = logger.level
    yield
    logger.setLevel(level)
    assert not logger.handlers


def test_a_run_its_table_its_report_and_its_evaluation(people: Path) -> None:
    done = reidkit("usl", "--target", people, "--seed", "3", *TINY)
    assert done.exit_code == 0, done.output
    run = Path("runs/usl-people")
    for words in ("epoch 0/2", "before training", "epoch 2/2", "best", "report runs/usl-people/report.html", "noise"):
        assert words in done.output
    assert (run / "report.html").stat().st_size > 1000
    assert "epoch 2/2" in (run / "log.txt").read_text()
    evaluated = reidkit("evaluate", run, "--precision", "32")
    assert evaluated.exit_code == 0, evaluated.output
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = max(record["mAP"] for record in records)
    assert f"{best:.1f}" in evaluated.output
    assert all(0 < record["mINP"] <= 100 for record in records)


def test_default_folders_are_numbered_and_resume_takes_the_last(people: Path) -> None:
    for _ in range(2):
        assert reidkit("usl", "--target", people, *TINY, "--epochs", "1").exit_code == 0
    assert Path("runs/usl-people-2").is_dir()
    resumed = reidkit("usl", "--target", people, "--resume", "--epochs", "2")
    assert resumed.exit_code == 0, resumed.output
    assert "resuming at epoch 2 of 2" in resumed.output
    assert len(Path("runs/usl-people-2/metrics.jsonl").read_text().splitlines()) == 3
    again = reidkit("usl", "--target", people, "--resume")
    assert "the run is finished: all 2 epochs are done" in again.output


def test_a_saved_configuration_runs_again(people: Path) -> None:
    assert reidkit("usl", "--target", people, "--output", "first", *TINY).exit_code == 0
    done = reidkit("usl", "--target", people, "--config", "first/config.toml", "--output", "second")
    assert done.exit_code == 0, done.output
    first, second = (
        [{**json.loads(line), "seconds": None} for line in Path(run, "metrics.jsonl").read_text().splitlines()]
        for run in ("first", "second")
    )
    assert first == second


def test_resume_refuses_other_settings(people: Path) -> None:
    assert reidkit("usl", "--target", people, "--output", "run", *TINY).exit_code == 0
    refused = reidkit("usl", "--target", people, "--output", "run", "--resume", "--eps", "0.3", "--epochs", "5")
    assert refused.exit_code == 2
    assert "clustering.eps: 0.5 -> 0.3" in refused.output
    assert "training.epochs" not in refused.output
    shorter = reidkit("usl", "--target", people, "--output", "run", "--resume", "--epochs", "1")
    assert shorter.exit_code == 2
    assert "cannot shorten it" in " ".join(shorter.output.split())


def test_a_used_output_folder_is_refused_and_untouched(people: Path) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    done = reidkit("usl", "--target", people, "--output", "mine", *TINY)
    assert done.exit_code == 2
    assert "is used already" in done.output
    assert [path.name for path in Path("mine").iterdir()] == ["thesis.txt"]


def test_quiet_shows_nothing_when_all_is_well(people: Path) -> None:
    done = reidkit("usl", "--target", people, "--quiet", *TINY, "--set=sampler.batch_size=4")
    assert done.exit_code == 0
    assert done.output == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["usl", "--target", "msmt17"], "MSMT17 was not found"),
        (["usl", "--target", "zebra"], "unknown data set 'zebra'"),
        (["usl", "--recipe", "usl/none"], "unknown recipe 'usl/none'"),
        (["usl", "--eps", "2"], "eps=2"),
        (["usl", "--set", "nonsense"], "section.name=value"),
        (["usl", "--resume"], "there is no run to resume"),
        (["usl", "--device", "cuda:77"], "CUDA"),
        (["usl", "--device", "cpu", "--pretrained", "absent.pth", "--target", "{people}"], "absent.pth were not found"),
        (["usl", "--recipe", "usl/market", "--target", "{people}"], "vit_small_ics_cfs_lup.pth were not found"),
        (["evaluate", "absent.pt"], "absent.pt does not exist"),
        (["recipes", "show", "usl/nope"], "unknown recipe"),
        (["data", "check", "zebra"], "unknown data set"),
        (["data", "make", "x", "--cameras", "0"], "cameras=0"),
    ],
)
def test_bad_input_is_one_clear_message(people: Path, arguments: list[str], message: str) -> None:
    done = reidkit(*(argument.format(people=people) for argument in arguments))
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output


def test_one_camera_for_all_explains_itself(people: Path, tmp_path: Path) -> None:
    same = shutil.copytree(people, tmp_path / "same")
    for number, path in enumerate(sorted(same.rglob("*.jpg"))):
        path.rename(path.with_name(f"{path.name[:4]}_c1s1_{number:06d}.jpg"))
    done = reidkit("usl", "--target", same, *TINY)
    assert done.exit_code == 2
    assert "evaluate without them (--no-cameras)" in " ".join(done.output.split())
    assert reidkit("usl", "--target", same, "--no-cameras", *TINY).exit_code == 0


def test_data_commands(people: Path) -> None:
    made = reidkit("data", "make", "set", "--train-identities", "2", "--test-identities", "2", "--distractors", "0")
    assert made.exit_code == 0, made.output
    assert Path("set/bounding_box_train").is_dir()
    checked = reidkit("data", "check", "set", "--read")
    assert checked.exit_code == 0, checked.output
    assert "train" in checked.output
    listed = reidkit("data", "list")
    assert listed.exit_code == 0
    assert "MSMT17" in listed.output


def test_data_check_tells_by_its_exit_code(people: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(people, tmp_path / "damaged")
    victim = min((damaged / "query").iterdir())
    victim.write_bytes(b"x")
    done = reidkit("data", "check", damaged, "--read")
    assert done.exit_code == 1
    assert victim.name in done.output.replace("\n", "")


def test_recipes_and_doctor() -> None:
    listed = reidkit("recipes", "list").output
    assert "usl/msmt17" in listed
    assert "expected" in listed
    shown = reidkit("recipes", "show", "usl/market")
    assert "learning_rate = 0.00035  # recipe" in shown.output
    examined = reidkit("doctor")
    assert examined.exit_code == 0
    assert "torch" in examined.output


@pytest.mark.parametrize(
    "command", [[], ["usl"], ["evaluate"], ["data", "make"], ["data", "check"], ["recipes", "show"], ["cluster"]]
)
def test_every_command_helps_with_an_example(command: list[str]) -> None:
    done = reidkit(*command, "--help")
    assert done.exit_code == 0
    assert f"reidkit {' '.join(command)}".strip() in done.output


def test_uda_and_supervised_run_as_typed(
    people: Path, others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    short = ["--set=supervised.epochs=1", "--set=supervised.iterations=2", "--batch-size", "16"]
    done = reidkit("uda", "--source", others, "--target", people, *TINY, "--set=supervised.batch_size=16", *short)
    assert done.exit_code == 0, done.output
    words = [
        "recipe uda/small",
        "identities 6",
        "clusters",
        "before adaptation",
        "source others",
        "runs/uda-people",
    ]
    assert [word for word in words if word not in " ".join(done.output.split())] == []
    done = reidkit("supervised", "--dataset", people, *TINY, *short)
    assert done.exit_code == 0, done.output
    assert "identities 8" in done.output
    assert "batch_size = 16" in Path("runs/supervised-people/config.toml").read_text()
    done = reidkit("usl", "--recipe", "uda/small", "--target", people)
    assert done.exit_code == 2
    assert "uda/small is a recipe of `reidkit uda`, not of `reidkit usl`" in done.output
    done = reidkit("uda", "--source", people, "--target", people)
    assert done.exit_code == 2
    assert "name two data sets" in done.output
