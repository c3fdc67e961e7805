from pathlib import Path

import numpy as np
import pytest

from reidkit.reporting.headline import Card, headline, progress
from reidkit.reporting.run import Clustering, Epoch, Run, read_run
from tests.reporting.folders import add_labels, make_run, records


def _run(*epochs: Epoch, clustering: Clustering | None = None, planned: int | None = None) -> Run:
    config = {} if planned is None else {"training": {"epochs": planned}}
    return Run(Path("run"), config, {}, list(epochs), clustering, [])


def _evaluated(scores: dict[int, float]) -> list[Epoch]:
    return [Epoch(number, "clusters" if number else "", {"mAP": score}, {}) for number, score in scores.items()]


def test_headline_of_a_finished_run(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", records())
    labels = [-1, *[0] * 4, *[1] * 2, 2]
    add_labels(folder, 4, labels, [Path(f"/{index}.jpg") for index in range(8)])
    assert headline(read_run(folder)) == [
        Card("mAP", "55.5 %", ["after epoch 4", "12.5 before training", "best 60.0 after epoch 2"]),
        Card("Rank-1", "82.0 %", ["after epoch 4, the best", "30.0 before training"]),
        Card("Clusters", "3", ["in epoch 4", "median size 2", "largest 4"]),
        Card("Noise", "12.5 %", ["in epoch 4", "1 of 8 images"]),
        Card("Time", "22.5 s", ["5.2 s an epoch"]),
    ]


def test_headline_of_nothing() -> None:
    cards = headline(_run())
    assert [card.value for card in cards] == ["—"] * 5
    assert [card.details for card in cards] == [
        ["not evaluated"],
        ["not evaluated"],
        ["nothing clustered yet"],
        ["nothing clustered yet"],
        ["not recorded"],
    ]


@pytest.mark.parametrize(
    ("scores", "value", "details"),
    [
        ({0: 8.0}, "8.0 %", ["before training"]),
        ({0: 8.0, 5: 6.0}, "6.0 %", ["after epoch 5", "8.0 before training, the best"]),
        ({5: 6.0}, "6.0 %", ["after epoch 5, the best"]),
        ({5: 7.0, 10: 6.0}, "6.0 %", ["after epoch 10", "best 7.0 after epoch 5"]),
        ({0: 1.0, 5: 7.0, 10: 7.0}, "7.0 %", ["after epoch 10, the best", "1.0 before training"]),
    ],
)
def test_accuracy_says_last_first_and_best(scores: dict[int, float], value: str, details: list[str]) -> None:
    assert headline(_run(*_evaluated(scores)))[0] == Card("mAP", value, details)


def test_adaptation_tells_target_and_source_before_and_after() -> None:
    epochs = _evaluated({0: 3.0, 2: 70.0, 4: 85.0})
    epochs[1].others.update({"market": 91.5})
    epochs[2].others.update({"market": 88.25})
    cards = {card.label: card for card in headline(_run(*epochs))}
    assert cards["mAP"].details == ["after epoch 4, the best", "3.0 before training", "70.0 before adaptation"]
    assert cards["mAP on market"] == Card("mAP on market", "88.2 %", ["after epoch 4", "91.5 before adaptation"])


def test_sizes_are_told_only_of_the_epoch_they_belong_to() -> None:
    epoch = Epoch(6, "clusters", {"clusters": 9.0, "noise": 0.5}, {})
    older = Clustering(5, np.array([0, 0, -1]), ["a", "b", "c"])
    assert headline(_run(epoch, clustering=older))[2:4] == [
        Card("Clusters", "9", ["in epoch 6"]),
        Card("Noise", "50.0 %", ["in epoch 6"]),
    ]


@pytest.mark.parametrize(
    ("last", "planned", "state"),
    [
        (None, 20, (False, "no epoch recorded yet")),
        (7, 20, (False, "unfinished: 7 of 20 epochs")),
        (20, 20, (True, "finished: 20 epochs")),
        (1, 1, (True, "finished: 1 epoch")),
        (7, None, (False, "7 epochs")),
    ],
)
def test_progress(last: int | None, planned: int | None, state: tuple[bool, str]) -> None:
    epochs = [] if last is None else [Epoch(last, "clusters", {}, {})]
    assert progress(_run(*epochs, planned=planned)) == state


@pytest.mark.parametrize("mode", ["pretrain", "supervised"])
def test_modes_without_clusters_show_the_loss(mode: str) -> None:
    epochs = [Epoch(1, "instances", {"loss": 2.0}, {}), Epoch(2, "instances", {"loss": 1.5}, {})]
    cards = {card.label: card for card in headline(Run(Path("run"), {"mode": mode}, {}, epochs, None, []))}
    assert "Clusters" not in cards
    assert cards["Loss"] == Card("Loss", "1.500", ["in epoch 2", "2.000 in epoch 1"])
    (loss,) = (card for card in headline(Run(Path("run"), {"mode": mode}, {}, [], None, [])) if card.label == "Loss")
    assert loss.value == "—"
