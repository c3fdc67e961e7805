from pathlib import Path

from reidkit.datasets import unreadable_warnings
from reidkit.datasets.image_files import image_files


def test_only_images_are_listed(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.PNG", "c.jpeg", "d.bmp", "e.JpEg", "f.BMP", "g.jpg.tmp", "._b.jpg", "Thumbs.db", "jpg"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in image_files(tmp_path)] == ["a.PNG", "b.jpg", "c.jpeg", "d.bmp", "e.JpEg", "f.BMP"]


def test_five_unreadable_images_are_named_and_all_are_counted() -> None:
    problems = [f"{number}.jpg: reason" for number in range(1, 8)]
    few = unreadable_warnings(problems[:2], "9 images", " (hint)")
    assert few == [
        "unreadable image, left out: 1.jpg: reason",
        "unreadable image, left out: 2.jpg: reason",
        "2 of 9 images are unreadable and left out (hint)",
    ]
    many = unreadable_warnings(problems, "9 images")
    assert many[:-1] == [f"unreadable image, left out: {problem}" for problem in problems[:5]]
    assert many[-1] == "7 of 9 images are unreadable and left out, 2 of them not named above"
    assert unreadable_warnings((), "9 images") == []
