"""What predictions were averaged over, in words."""


def averaged_label(tta: bool, planes: str, before: str = "; ") -> str:
    """'; predictions averaged over flips and planes'; '' where they are not averaged.

    Args:
      tta, planes: as in config.evaluation.
      before: what the words begin with.
    """
    over = " and ".join(["flips"] * tta + ["planes"] * bool(planes))
    return f"{before}predictions averaged over {over}" if over else ""
