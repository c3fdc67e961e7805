import pytest

from reidkit.reporting.wording import count, duration, percent


def test_counts_agree_in_number() -> None:
    assert [count(number, "image") for number in (0, 1, 12_936)] == ["0 images", "1 image", "12,936 images"]


def test_shares_become_per_cent() -> None:
    assert [percent(share) for share in (0.0, 0.1234, 1.0)] == ["0.0 %", "12.3 %", "100.0 %"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (61.2, "1 min 01 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_durations_choose_their_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text
