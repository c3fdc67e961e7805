"""Cards at the top of the page: the result of the run."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from reidkit.reporting.run import Clustering, Epoch, Run
from reidkit.reporting.wording import count, duration, percent

__all__ = ["Card", "headline", "progress"]

_WITHOUT_CLUSTERS = ("pretrain", "supervised")
"""Modes whose labels are no clusters."""


class Card(NamedTuple):
    """One value of the headline."""

    label: str
    value: str
    """With its unit; a dash where it is not known."""
    details: list[str]
    """A few words each."""


def headline(run: Run) -> list[Card]:
    """MAP, Rank-1, mAP on other data sets, clusters and noise (or the loss, in modes without clusters) and time."""
    in_training = _clusters if run.config.get("mode") not in _WITHOUT_CLUSTERS else _loss
    return [
        _accuracy(run.epochs, "mAP", "mAP"),
        _accuracy(run.epochs, "rank1", "Rank-1"),
        *_others(run.epochs),
        *in_training(run.epochs, run.clustering),
        _time(run.epochs),
    ]


def progress(run: Run) -> tuple[bool, str]:
    """Whether the run is complete, and in words how far it has come."""
    planned = run.setting("training", "epochs", int)
    if not run.epochs:
        return False, "no epoch recorded yet"
    last = run.epochs[-1].number
    if planned is None:
        return False, count(last, "epoch")
    if last < planned:
        return False, f"unfinished: {last:,} of {count(planned, 'epoch')}"
    return True, f"finished: {count(last, 'epoch')}"


def _accuracy(epochs: list[Epoch], name: str, label: str) -> Card:
    scores = {epoch.number: epoch.metrics[name] for epoch in epochs if name in epoch.metrics}
    if not scores:
        return Card(label, "—", ["not evaluated"])
    last = max(scores)
    if last == 0:
        return Card(label, f"{scores[0]:.1f} %", ["before training"])
    best = max(scores, key=lambda epoch: (scores[epoch], epoch))
    praise = {best: ", the best"}
    details = [f"after epoch {last}{praise.get(last, '')}"]
    details += [f"{scores[0]:.1f} before training{praise.get(0, '')}"] if 0 in scores else []
    adapted = [epoch.number for epoch in epochs if epoch.others]  # first, before the target's first epoch
    details += [f"{scores[adapted[0]]:.1f} before adaptation"] if len(adapted) > 1 and adapted[0] in scores else []
    details += [f"best {scores[best]:.1f} after epoch {best}"] if 0 < best < last else []
    return Card(label, f"{scores[last]:.1f} %", details)


def _others(epochs: list[Epoch]) -> list[Card]:
    """MAP that is left on the source, a card for each data set."""
    known = [epoch for epoch in epochs if epoch.others]
    cards = []
    for name, score in known[-1].others.items() if known else ():
        details = [f"after epoch {known[-1].number}"]
        if len(known) > 1 and name in known[0].others:
            details.append(f"{known[0].others[name]:.1f} before adaptation")
        cards.append(Card(f"mAP on {Path(name).name}", f"{score:.1f} %", details))
    return cards


def _clusters(epochs: list[Epoch], clustering: Clustering | None) -> list[Card]:
    """Clusters and noise of the last epoch that trained on clusters; sizes where its labels are known."""
    last = next((epoch for epoch in reversed(epochs) if epoch.kind == "clusters"), Epoch(0, "", {}, {}))
    clusters, noise = [f"in epoch {last.number}"], [f"in epoch {last.number}"]
    if clustering is not None and clustering.epoch == last.number:
        _, sizes = clustering.clusters
        clusters += [f"median size {np.median(sizes):g}", f"largest {sizes.max():,}"] if len(sizes) else []
        noise.append(f"{clustering.noise:,} of {count(len(clustering.labels), 'image')}")
    cards = [
        Card("Clusters", f"{last.metrics.get('clusters', 0):,.0f}", clusters),
        Card("Noise", percent(last.metrics.get("noise", 0)), noise),
    ]
    return [
        card if card.label.lower() in last.metrics else Card(card.label, "—", ["nothing clustered yet"])
        for card in cards
    ]


def _loss(epochs: list[Epoch], _: Clustering | None) -> list[Card]:
    losses = {epoch.number: epoch.metrics["loss"] for epoch in epochs if "loss" in epoch.metrics}
    if not losses:
        return [Card("Loss", "—", ["not trained yet"])]
    first, last = min(losses), max(losses)
    details = [f"in epoch {last}"] + ([f"{losses[first]:.3f} in epoch {first}"] if first < last else [])
    return [Card("Loss", f"{losses[last]:.3f}", details)]


def _time(epochs: list[Epoch]) -> Card:
    times = {epoch.number: sum(epoch.seconds.values()) for epoch in epochs if epoch.seconds}
    if not times:
        return Card("Time", "—", ["not recorded"])
    trained = [time for number, time in times.items() if number > 0]
    details = [f"{duration(sum(trained) / len(trained))} an epoch"] if trained else []
    return Card("Time", duration(sum(times.values())), details)
