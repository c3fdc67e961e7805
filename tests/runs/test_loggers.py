"""Services that log a run: what they receive, and that no run depends on them."""

import logging
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import pytest
from click.testing import CliRunner
from lightning_fabric.loggers.logger import Logger

from reidkit.cli import cli
from reidkit.cli.options import LOGGERS
from reidkit.errors import ConfigError, Interrupted
from reidkit.runs import EpochRecord, RunFolder
from reidkit.runs.config import LoggingConfig
from reidkit.runs.loggers import SERVICES, STATE, Loggers, require_loggers
from reidkit.usl import train_usl
from tests.faults.campaign import differences
from tests.tiny import tiny_config, tiny_run


class Server:
    """Stands in for a service, with all its runs."""

    def __init__(self) -> None:
        self.settings: dict[str, dict[str, Any]] = {}
        self.metrics: dict[str, list[tuple[int | None, dict[str, float]]]] = {}
        self.endings: list[str] = []
        self.calls = 0
        self.down: type[BaseException] | None = None
        self.fails_at: int | None = None

    def open(self, path: Path, run: str | None) -> Logger:
        self._answer()
        return Client(self, run)

    def close(self, opened: Logger, ending: str) -> None:
        self._answer()
        self.endings.append(ending)

    def _answer(self) -> None:
        self.calls += 1
        if self.down is not None:
            raise self.down("no route to host\nand more")

    def put(self, run: str, step: int | None, metrics: dict[str, float]) -> None:
        self._answer()
        if step == self.fails_at:
            raise ConnectionError("no route to host\nand more")
        self.metrics.setdefault(run, []).append((step, metrics))

    @property
    def epochs(self) -> list[int | None]:
        """The steps of its only run."""
        [metrics] = self.metrics.values()
        return [step for step, _ in metrics]


class Client(Logger):
    def __init__(self, server: Server, run: str | None) -> None:
        self._server, self._run = server, run

    @property
    def name(self) -> str:
        return "memory"

    @property
    def version(self) -> str:
        assert self._run is not None
        return self._run

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self._run = f"run-{len(self._server.settings)}"
        self._server.settings[self._run] = params

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._server.put(self.version, step, metrics)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """In the place of W&B, which need not be installed."""
    made = Server()
    monkeypatch.setitem(SERVICES, "wandb", (made.open, made.close))
    monkeypatch.setattr("reidkit.runs.loggers.find_spec", lambda name: find_spec("json"))
    return made


def records(count: int) -> list[EpochRecord]:
    return [EpochRecord(epoch=epoch, labels="clusters", scores={"mAP": float(epoch)}) for epoch in range(count)]


def loggers(path: Path, *, resume: bool = False) -> Loggers:
    return Loggers(path, tiny_config("synthetic", logging={"loggers": ["wandb"]}), resume=resume)


def test_a_run_is_followed_and_stays_the_same_bit_for_bit(people: Path, tmp_path: Path, server: Server) -> None:
    alone, followed = tiny_config(people), tiny_config(people, logging={"loggers": ["wandb"]})
    whole = tiny_run(tmp_path / "alone", alone)
    train_usl(alone, whole)
    run = tiny_run(tmp_path / "run", followed)
    history = train_usl(followed, run)
    assert server.settings == {"run-0": followed.model_dump(mode="json")}
    assert server.metrics == {"run-0": [(record.epoch, record.numbers()) for record in history]}
    assert server.metrics["run-0"][2][1]["quality/silhouette"] == history[2].quality["silhouette"]
    assert server.endings == ["success"]
    assert differences(run.path, whole.path) == []
    assert not (whole.path / STATE).exists()


def test_a_resumed_run_goes_on_as_the_same_run(people: Path, tmp_path: Path, server: Server) -> None:
    settings: dict[str, Any] = {"logging": {"loggers": ["wandb"]}}
    config = tiny_config(people, **settings)
    run = tiny_run(tmp_path / "run", config)
    train_usl(config, run)
    train_usl(tiny_config(people, training={"epochs": 4}, **settings), RunFolder.open(run.path), resume=True)
    assert list(server.settings) == ["run-0"]
    assert server.epochs == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("broken", ["all the time", "in the middle"])
def test_a_service_that_fails_ends_no_run_and_is_named_once(
    people: Path, tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    if broken == "all the time":
        server.down = ConnectionError
    else:
        server.fails_at = 1
    config = tiny_config(people, logging={"loggers": ["wandb"]})
    run = tiny_run(tmp_path / "run", config)
    assert len(train_usl(config, run)) == 3
    [warning] = [record.getMessage() for record in caplog.records if "follow" in record.getMessage()]
    assert "wandb does not follow the run (ConnectionError: no route to host); the run goes on" in warning
    assert server.calls == (1 if broken == "all the time" else 3)  # then it is left alone for a while
    assert not server.endings
    server.down = server.fails_at = None
    train_usl(config, RunFolder.open(run.path), resume=True)  # the run is finished
    assert server.epochs == [0, 1, 2]
    assert server.endings == ["success"]


def test_a_service_that_is_back_is_told_what_it_missed(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened = loggers(tmp_path)
    opened.log(records(1))
    server.fails_at = 2
    opened.log(records(2))
    for count in (3, 4):
        opened.log(records(count))
    assert server.epochs == [0, 1]
    monkeypatch.setattr("reidkit.runs.loggers.time.monotonic", lambda: float("inf"))
    opened.log(records(5))
    assert server.epochs == [0, 1]
    server.fails_at = None
    opened.log(records(6))
    assert server.epochs == [0, 1, 2, 3, 4, 5]
    assert len(caplog.records) == 1


def test_a_service_that_joins_later_is_told_all(tmp_path: Path, server: Server) -> None:
    loggers(tmp_path, resume=True).log(records(4))
    assert server.epochs == [0, 1, 2, 3]


def test_epochs_that_are_done_again_are_told_once(tmp_path: Path, server: Server) -> None:
    loggers(tmp_path).log(records(4))
    again = loggers(tmp_path, resume=True)
    for count in (3, 4, 5):
        again.log(records(count))
    assert server.epochs == [0, 1, 2, 3, 4]


def test_a_new_run_in_an_old_folder_is_another_run(tmp_path: Path, server: Server) -> None:
    loggers(tmp_path).log(records(2))
    loggers(tmp_path).log(records(1))
    assert {run: len(metrics) for run, metrics in server.metrics.items()} == {"run-0": 2, "run-1": 1}


def test_a_run_that_is_finished_and_told_calls_nobody(tmp_path: Path, server: Server) -> None:
    loggers(tmp_path).log(records(2))
    calls = server.calls
    opened = loggers(tmp_path, resume=True)
    with opened:
        opened.log(records(2))
    assert server.calls == calls


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[" * 100_000, b'{"wandb": {"run": 3, "epoch": "x"}}', b'{"wandb": {}}', b"\xff"]
)
def test_damaged_notes_begin_a_new_run(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture, damage: bytes
) -> None:
    loggers(tmp_path).log(records(1))
    (tmp_path / STATE).write_bytes(damage)
    loggers(tmp_path, resume=True).log(records(2))
    assert "loggers.json is damaged" in caplog.text
    assert list(server.metrics) == ["run-0", "run-1"]


@pytest.mark.parametrize(
    ("error", "ending"), [(ConfigError("x"), "failed"), (KeyboardInterrupt(), "aborted"), (Interrupted(15), "aborted")]
)
def test_the_service_gets_how_a_run_ended(tmp_path: Path, server: Server, error: BaseException, ending: str) -> None:
    config = tiny_config("synthetic", logging={"loggers": ["wandb"]})

    def work() -> None:
        with Loggers(tmp_path, config) as opened:
            opened.log(records(1))
            raise error

    with pytest.raises(type(error)):
        work()
    assert server.endings == [ending]


def test_only_the_main_process_logs(tmp_path: Path, server: Server) -> None:
    config = tiny_config("synthetic", logging={"loggers": ["wandb"]})
    with Loggers(tmp_path, config, is_main=False, resume=True) as opened:
        opened.log(records(3))
    assert server.calls == 0
    assert not list(tmp_path.iterdir())


def test_ctrl_c_in_a_service_stops_the_run(tmp_path: Path, server: Server) -> None:
    server.down = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        loggers(tmp_path).log(records(1))


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package of W&B."""
    monkeypatch.setattr("reidkit.runs.loggers.find_spec", lambda name: None if name == "wandb" else find_spec("json"))


MISSING = r"logger 'wandb' needs wandb, not installed here: pip install 'reidkit\[wandb\]', or go without it"


@pytest.mark.usefixtures("absent")
def test_a_package_that_is_not_installed_is_named_with_its_extra(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=MISSING):
        require_loggers(["wandb"])
    with pytest.raises(ConfigError, match=MISSING):
        loggers(tmp_path)


def test_a_folder_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "absent_package").mkdir()  # as wandb makes one of its own name where it works
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"needs absent_package.*, not installed here"):
        require_loggers(["absent_package"])


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Commands write into a folder of their own; logging is left as it was found."""
    monkeypatch.chdir(tmp_path)
    level = logging.getLogger("reidkit").level
    yield tmp_path
    logging.getLogger("reidkit").setLevel(level)


@pytest.mark.usefixtures("absent")
@pytest.mark.parametrize("command", ["usl", "uda", "supervised", "pretrain"])
def test_a_command_refuses_a_logger_that_is_not_installed_before_it_does_anything(
    elsewhere: Path, command: str
) -> None:
    done = CliRunner().invoke(cli, [command, "--logger", "wandb"])
    assert done.exit_code == 2
    assert "pip install 'reidkit[wandb]'" in done.output
    assert not list(elsewhere.iterdir())


def test_the_option_sets_the_loggers(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    for name in ("mlflow", "wandb"):
        monkeypatch.setitem(SERVICES, name, (server.open, server.close))
    monkeypatch.setattr("reidkit.runs.loggers.find_spec", lambda name: find_spec("json"))

    def train(config: Any, run: RunFolder, **options: Any) -> list[EpochRecord]:
        assert config.logging.loggers == ("wandb", "mlflow")
        raise ConfigError("enough")

    monkeypatch.setattr("reidkit.usl.train_usl", train)
    done = CliRunner().invoke(cli, ["usl", "--logger", "wandb", "--logger", "mlflow", "--output", "run"])
    assert "enough" in done.output
    assert RunFolder(elsewhere / "run").read_config().logging.loggers == ("wandb", "mlflow")
    assert CliRunner().invoke(cli, ["usl", "--logger", "paper"]).exit_code == 2


def test_settings_option_and_services_know_the_same_names() -> None:
    named = get_args(get_args(LoggingConfig.model_fields["loggers"].annotation)[0])
    assert sorted(named) == sorted(SERVICES) == sorted(LOGGERS)
