from collections import Counter
from xml.etree.ElementTree import Element, fromstring

import numpy as np
import pytest

from reidkit.pages import Figure
from reidkit.reporting.metric_charts import compared_curves, curves, size_histogram, stages, unrecorded
from reidkit.reporting.run import Epoch


def _epoch(number: int, kind: str = "clusters", **metrics: float) -> Epoch:
    return Epoch(number, kind, metrics, {"train": 2.0, "evaluate": 1.0})


def _drawn(figure: Figure) -> Element:
    return fromstring(figure.drawing)


def _tips(figure: Figure) -> list[str]:
    return [node.text or "" for node in _drawn(figure).iter("title")]


def test_curves_show_what_was_recorded() -> None:
    epochs = [
        _epoch(0, "", mAP=10.0, rank1=20.0),
        _epoch(1, "instances", clusters=500, noise=0.0, loss=2.0, learning_rate=1e-3),
        _epoch(2, clusters=40, noise=0.25, loss=1.0, learning_rate=5e-4, mAP=30.0, rank1=50.0),
    ]
    accuracy, loss, clusters, noise, rate, time = curves(epochs)
    assert accuracy.keys == ["mAP", "Rank-1"]
    assert _tips(accuracy) == [
        "epoch 0: mAP 10.0 %",
        "epoch 2: mAP 30.0 %",
        "epoch 0: Rank-1 20.0 %",
        "epoch 2: Rank-1 50.0 %",
    ]
    assert _tips(loss) == ["epoch 1: loss 2", "epoch 2: loss 1"]
    assert _tips(clusters) == ["epoch 2: clusters 40"]
    assert _tips(noise) == ["epoch 2: noise 25.0 %"]
    assert _tips(rate) == ["epoch 1: learning rate 0.001", "epoch 2: learning rate 0.0005"]
    assert time.keys == ["train", "evaluate"]
    assert _tips(time)[:2] == ["epoch 0: train 2.0 s", "epoch 0: evaluate 1.0 s"]


def test_epochs_without_clusters_are_shaded() -> None:
    kinds = ["instances", "clusters", "instances", "clusters"]
    epochs = [_epoch(number, kind, loss=1.0) for number, kind in enumerate(kinds, start=1)]
    shades = [box for box in _drawn(curves(epochs)[0]).iter("rect") if box.get("class") == "shade"]
    assert len(shades) == 2


def test_without_clusters_nothing_is_shaded() -> None:
    epochs = [_epoch(number, "instances", loss=1.0) for number in (1, 2)]
    assert not [box for box in _drawn(curves(epochs)[0]).iter("rect") if box.get("class") == "shade"]


def test_what_was_not_recorded_is_not_drawn() -> None:
    assert curves([]) == []
    expected = ["Accuracy on the target, %", "Clusters", "Noise, % of the images", "Learning rate"]
    assert unrecorded([_epoch(1, loss=1.0)]) == expected
    assert [figure.title for figure in curves([_epoch(1, loss=1.0)])] == ["Loss", "Time by stage, s"]


def test_metrics_of_any_name_get_a_curve() -> None:
    epochs = [
        Epoch(1, "instances", {"teacher_entropy": 4.5, "skipped": 0.0}, {}),
        Epoch(
            2, "clusters", {"feature_rank": 12.0}, {}, {}, {"stability": 0.75, "oddity": 2.0, "cluster_sizes/3-4": 3}
        ),
    ]
    found = {figure.title: _tips(figure) for figure in curves(epochs)}
    assert found == {
        "Agreement with the epoch before, ARI": ["epoch 2: ARI 0.750"],
        "Teacher entropy": ["epoch 1: Teacher entropy 4.5"],
        "Oddity": ["epoch 2: Oddity 2"],
        "Feature rank": ["epoch 2: Feature rank 12"],
    }


def test_runs_lie_over_each_other() -> None:
    runs = {
        "one": [_epoch(1, mAP=10.0, loss=3.0), _epoch(2, mAP=20.0)],
        "none": [],
        "two": [_epoch(4, mAP=30.0, odd=1.0)],
    }
    found = {figure.title: figure for figure in compared_curves(runs)}
    assert list(found) == ["mAP, %", "Loss", "Odd", "Time of an epoch, s"]
    assert _tips(found["mAP, %"]) == ["epoch 1: one 10.0 %", "epoch 2: one 20.0 %", "epoch 4: two 30.0 %"]
    dots = [node.get("class") for node in _drawn(found["mAP, %"]).iter("circle")]
    assert dots == ["dot s1", "dot s1", "dot s3"]
    assert compared_curves({"one": [], "two": []}) == []


def test_accuracy_may_lack_one_of_its_lines() -> None:
    accuracy = curves([_epoch(1, rank1=3.0)])[0]
    assert accuracy.keys == ["Rank-1"]
    assert _tips(accuracy) == ["epoch 1: Rank-1 3.0 %"]


@pytest.mark.parametrize(("seconds", "unit"), [(599.0, "s"), (601.0, "min"), (36_000.0, "h")])
def test_time_chooses_its_unit(seconds: float, unit: str) -> None:
    figure = curves([Epoch(1, "clusters", {}, {"train": seconds})])[-1]
    assert figure.title == f"Time by stage, {unit}"


def test_stages_come_in_the_order_of_an_epoch() -> None:
    epochs = [
        Epoch(0, "", {}, {"evaluate": 1.0, "adapt": 1.0}),
        Epoch(1, "clusters", {}, {"train": 1.0, "cluster": 1.0, "extract": 1.0}),
    ]
    assert stages(epochs) == ["extract", "cluster", "train", "evaluate", "adapt"]


def test_histogram_counts_every_size() -> None:
    sizes = np.random.default_rng(0).integers(3, 20, 60)
    figure = size_histogram(sizes)
    counts = Counter(sizes.tolist())
    expected = [
        f"{counts[size]} cluster{'' if counts[size] == 1 else 's'} of {size} images"
        for size in range(min(counts), max(counts) + 1)
    ]
    assert _tips(figure) == expected


@pytest.mark.parametrize("seed", range(6))
def test_histogram_bins_hold_all_clusters(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = np.concatenate([rng.integers(2, 10 ** (1 + seed % 3), 200), rng.integers(2000, 9000, seed % 4)])
    tips = _tips(size_histogram(sizes))
    assert len(tips) <= 25
    assert sum(int(tip.split()[0].replace(",", "")) for tip in tips) == len(sizes)
    for tip in tips:
        words = tip.split()
        low = int(words[4]) + 1 if words[3] == "over" else int(words[3])
        high = int(words[5]) if words[4] == "to" else 10**6 if words[3] == "over" else low
        assert int(words[0].replace(",", "")) == sum(low <= size <= high for size in sizes.tolist())


def test_few_giants_share_the_last_bar() -> None:
    tips = _tips(size_histogram(np.array([4] * 60 + [5] * 40 + [900])))
    assert tips == ["60 clusters of 4 images", "40 clusters of 5 images", "1 cluster of over 5 images"]


def test_one_cluster_is_a_histogram() -> None:
    assert _tips(size_histogram(np.array([7]))) == ["1 cluster of 7 images"]
