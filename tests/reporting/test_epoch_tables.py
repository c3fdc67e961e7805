from pathlib import Path

from reidkit.reporting.epoch_tables import epoch_table, sections
from reidkit.reporting.run import Epoch, read_run
from tests.reporting.folders import make_run, records


def test_table_of_all_epochs(tmp_path: Path) -> None:
    headings, rows = epoch_table(read_run(make_run(tmp_path / "run", records())).epochs)
    assert headings == [
        *("epoch", "labels", "mAP", "Rank-1", "Rank-5", "Rank-10", "clusters", "noise %", "loss", "learning rate"),
        *("images", "skipped", "extract s", "cluster s", "train s", "evaluate s"),
    ]
    assert rows[0][0] == ["0", "", "12.5", "30.0", "40.0", "50.0", *[""] * 9, "1.5"]
    assert rows[2][0] == [
        *("2", "clusters", "60.0", "80.0", "90.0", "95.0", "4", "50.0", "1.500", "1.00e-03"),
        *("640", "0", "1.0", "0.5", "3.0", "1.5"),
    ]
    assert [best for _, best in rows] == [False, False, True, False, False]


def test_columns_that_stay_empty_are_left_out() -> None:
    headings, rows = epoch_table([Epoch(1, "clusters", {"loss": 2.0}, {}), Epoch(2, "clusters", {"loss": 1.0}, {})])
    assert headings == ["epoch", "labels", "loss"]
    assert [cells for cells, _ in rows] == [["1", "clusters", "2.000"], ["2", "clusters", "1.000"]]
    assert not any(best for _, best in rows)


def test_no_epochs_no_rows() -> None:
    assert epoch_table([])[1] == []


def test_settings_become_sections() -> None:
    table = {
        "mode": "usl",
        "data": {"target": "market", "cameras": True, "mean": [0.5, 0.25], "pretrained": "", "empty": []},
        "seed": 1,
        "none": {},
        "deep": {"a": {"b": 0.00035, "c": None}, "d": False},
    }
    assert sections(table, "run") == [
        ("run", [("mode", "usl"), ("seed", "1")]),
        (
            "data",
            [
                ("target", "market"),
                ("cameras", "true"),
                ("mean", "0.5, 0.25"),
                ("pretrained", "none"),
                ("empty", "none"),
            ],
        ),
        ("deep", [("a.b", "0.00035"), ("a.c", "None"), ("d", "false")]),
    ]
    assert sections({}, "run") == []
