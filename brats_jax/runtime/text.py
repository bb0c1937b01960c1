"""Numbers as text."""


def plural(count: int, one: str, many: str = "") -> str:
    """'1 fold', '5 folds', '1,200 folds'."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """'1:05' for 65 seconds, '2:03:04' for hours."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
