"""Numbers in words."""

__all__ = ["count", "duration", "percent"]


def count(number: int, thing: str) -> str:
    """`1 cluster`, `1,200 clusters`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def percent(share: float) -> str:
    """A share in [0, 1] as per cent."""
    return f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """Seconds as seconds, minutes or hours, whichever suits."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60:,} h {minutes % 60:02d} min"
