import json

import pytest

from reidkit.runs import EpochRecord

RECORDS = [
    EpochRecord(epoch=0, scores={"mAP": 3.5, "rank1": 5.0}, seconds={"evaluate": 0.1}),
    EpochRecord(
        epoch=3,
        labels="clusters",
        clusters=7,
        noise=0.25,
        learning_rate=3.5e-4,
        quality={"silhouette": 0.5, "cluster_sizes/3-4": 2},
        loss=1.5,
        skipped=0,
        images=48,
        metrics={"teacher_entropy": 0.5},
        scores={"mAP": 10.0, "mINP": 1.0},
        others={"market": {"mAP": 2.0}},
        seconds={"train": 1.5},
    ),
    EpochRecord(epoch=1, labels="instances", clusters=4, noise=0.0, loss=0.5),
]


@pytest.mark.parametrize("record", RECORDS)
def test_a_line_gives_the_record_back(record: EpochRecord) -> None:
    assert EpochRecord.from_line(json.loads(json.dumps(record.as_line()))) == record


def test_a_line_has_the_names_that_readers_of_metrics_know() -> None:
    assert RECORDS[0].as_line() == {"epoch": 0, "mAP": 3.5, "rank1": 5.0, "seconds": {"evaluate": 0.1}}
    line = RECORDS[1].as_line()
    assert (line["mAP"], line["teacher_entropy"], line["others"]) == (10.0, 0.5, {"market": {"mAP": 2.0}})
    assert "mAP" not in RECORDS[2].as_line()


def test_numbers_have_their_path_as_name() -> None:
    numbers = RECORDS[1].numbers()
    assert numbers["quality/silhouette"] == 0.5
    assert numbers["others/market/mAP"] == 2.0
    assert numbers["seconds/train"] == 1.5
    assert not {"epoch", "labels"} & numbers.keys()


def test_a_line_without_an_epoch_is_refused() -> None:
    with pytest.raises(KeyError, match="epoch"):
        EpochRecord.from_line({"mAP": 1.0})
