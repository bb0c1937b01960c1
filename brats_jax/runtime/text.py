"""Words around numbers."""


def plural(count: int, one: str, many: str = "") -> str:
    """'1 fold', '5 folds', '1,200 folds'."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
