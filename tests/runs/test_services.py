"""Weights & Biases and MLflow themselves, where they are installed; nothing leaves the machine."""

import json
import struct
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reidkit.runs import EpochRecord, RunFolder
from reidkit.runs.loggers import Loggers
from reidkit.usl import train_usl
from tests.faults.campaign import differences
from tests.tiny import tiny_config, tiny_run

pytestmark = pytest.mark.filterwarnings("default")  # of packages that are not ours


def require(name: str) -> Any:
    """A package that an extra brings."""
    for package in ("pytorch_lightning", name):
        found = pytest.importorskip(package, reason=f"{package} is not installed: pip install 'reidkit[{name}]'")
    return found


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """MLflow with a store of files."""
    package = require("mlflow")
    # The package too sets this variable; in the end it is as it was.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    package.set_tracking_uri((tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    yield package
    package.set_tracking_uri(None)


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """W&B that writes to the disk only."""
    package = require("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    yield package
    package.teardown()


def randomness() -> list[Any]:
    """The state of the generators that a package shares with the loop."""
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return [torch.get_rng_state().tolist(), kind, np.asarray(keys).tolist(), rest]


def test_mlflow_follows_a_run_and_its_resumption(people: Path, tmp_path: Path, mlflow: Any) -> None:
    settings: dict[str, Any] = {"logging": {"loggers": ["mlflow"]}, "backbone": {"depth": 2, "drop_path": 0.2}}
    config, longer = (tiny_config(people, training={"epochs": epochs}, **settings) for epochs in (2, 3))
    run = tiny_run(tmp_path / "run", config)
    train_usl(config, run)
    history = train_usl(longer, RunFolder.open(run.path), resume=True)
    client = mlflow.MlflowClient()
    [experiment] = [one for one in client.search_experiments() if one.name == "reidkit"]
    [kept] = client.search_runs([experiment.experiment_id])
    assert kept.info.run_name == "run"
    assert kept.info.status == "FINISHED"
    assert kept.data.params["clustering/eps"] == "0.5"
    assert kept.data.params["data/target"] == str(people)
    for name in ("mAP", "seconds/train", "quality/silhouette", "loss"):
        wanted = [(one.epoch, one.numbers()[name]) for one in history if name in one.numbers()]
        assert [(one.step, one.value) for one in client.get_metric_history(kept.info.run_id, name)] == wanted
    whole = tiny_run(tmp_path / "alone", tiny_config(people, **{**settings, "logging": {}, "training": {"epochs": 3}}))
    train_usl(whole.read_config(), whole)
    assert differences(run.path, whole.path) == []


def test_mlflow_says_how_a_run_ended_and_that_it_runs_again(tmp_path: Path, mlflow: Any) -> None:
    config = tiny_config("synthetic", logging={"loggers": ["mlflow"]})
    client, seen = mlflow.MlflowClient(), []

    def status() -> str:
        [experiment] = [one for one in client.search_experiments() if one.name == "reidkit"]
        [run] = client.search_runs([experiment.experiment_id])
        return str(run.info.status)

    def work(epochs: int, error: type[BaseException]) -> None:
        with Loggers(tmp_path, config, resume=epochs > 1) as loggers:
            loggers.log([EpochRecord(epoch=epoch, scores={"mAP": 1.0}) for epoch in range(epochs)])
            seen.append(status())
            raise error

    for epochs, error in ((1, KeyboardInterrupt), (2, ValueError)):
        with pytest.raises(error):
            work(epochs, error)
        seen.append(status())
    assert seen == ["RUNNING", "KILLED", "RUNNING", "FAILED"]


def test_an_mlflow_server_that_is_not_there_ends_no_run(
    tmp_path: Path, mlflow: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with Loggers(tmp_path, tiny_config("synthetic", logging={"loggers": ["mlflow"]})) as loggers:
        loggers.log([EpochRecord(epoch=0, scores={"mAP": 1.0})])
    assert "mlflow does not follow the run (MlflowException: " in caplog.text


def test_wandb_follows_a_run_and_its_resumption(people: Path, tmp_path: Path, wandb: Any) -> None:
    settings: dict[str, Any] = {"logging": {"loggers": ["wandb"]}, "backbone": {"depth": 2, "drop_path": 0.2}}
    config, longer = (tiny_config(people, training={"epochs": epochs}, **settings) for epochs in (2, 3))
    run = tiny_run(tmp_path / "run", config)
    streams = sys.stdout, sys.stderr
    train_usl(config, run)
    history = train_usl(longer, RunFolder.open(run.path), resume=True)
    assert (sys.stdout, sys.stderr) == streams
    assert wandb.run is None
    parts = sorted((run.path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(parts) == 2
    assert len({part.name for part in parts}) == 1  # the id of the run
    told = [one for part in parts for one in read_history(part)]
    assert [one["trainer/global_step"] for one in told] == [0, 1, 2, 3]
    for one, record in zip(told, history, strict=True):
        assert {name: one[name] for name in record.numbers()} == record.numbers()
    written = b"".join(part.read_bytes() for part in parts)
    assert str(people).encode() in written
    whole = tiny_run(tmp_path / "alone", tiny_config(people, **{**settings, "logging": {}, "training": {"epochs": 3}}))
    train_usl(whole.read_config(), whole)
    assert differences(run.path, whole.path) == []


def read_history(path: Path) -> list[dict[str, Any]]:
    """The rows that a file of W&B holds."""
    messages: Any = import_module("wandb.proto.wandb_internal_pb2")
    rows = []
    for data in read_log(path.read_bytes()):
        record = messages.Record()
        record.ParseFromString(data)
        items = record.history.item
        if items:
            rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows


def read_log(content: bytes) -> Iterator[bytes]:
    """The records of a log in LevelDB's format, after W&B's seven bytes: checksum, length, kind, data."""
    place, whole = 7, b""
    while place + 7 <= len(content):
        left = 32_768 - place % 32_768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        whole += content[place + 7 : place + 7 + length]
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""
        place += 7 + length


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_service_draws_no_random_number(tmp_path: Path, request: pytest.FixtureRequest, name: str) -> None:
    request.getfixturevalue(name)
    before = randomness()
    with Loggers(tmp_path, tiny_config("synthetic", logging={"loggers": [name]})) as loggers:
        loggers.log([EpochRecord(epoch=0, scores={"mAP": 1.0})])
        loggers.log([EpochRecord(epoch=0, scores={"mAP": 1.0}), EpochRecord(epoch=1, scores={"mAP": 2.0})])
    assert randomness() == before
