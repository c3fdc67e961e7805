from reidkit.synthetic.randomness import stream


def test_streams_are_reproducible_and_independent() -> None:
    keys = [("track", 0, (1, 2)), ("image", 0, (1, 2)), ("track", 1, (1, 2)), ("track", 0, (2, 1)), ("track", 0, (1,))]
    first = {stream(purpose, seed, "summer", *key).random() for purpose, seed, key in keys}
    assert first == {stream(purpose, seed, "summer", *key).random() for purpose, seed, key in keys}
    assert len(first | {stream("track", 0, "winter", 1, 2).random()}) == 6
