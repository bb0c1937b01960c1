"""The paper's sentences about its numbers, checked against the numbers.

Each claim is a quote and a function that decides from the printed numbers whether it holds.
A contradiction is 'rounding' if a printed mean contradicts the claim but the means of the
folds, or another table, support it; it is 'definite' if these contradict it too.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import product
from typing import NamedTuple

from brats_jax.reporting.paper.findings import Finding, Kind, Reading, plain
from brats_jax.reporting.paper.printed_tables import CLASSES, FOREGROUND, LOSSES

TUMOUR = CLASSES[1:]


class Verdict(NamedTuple):
    """The kind of a contradiction, and the statement that the numbers support."""

    kind: Kind
    expected: str


class Claim(NamedTuple):
    """A sentence of the paper and its test, which returns None if the sentence holds."""

    where: str
    quote: str
    test: Callable[["Gains"], Verdict | None]


class Gains:
    """Gain of SSL over the baseline in Dice and in ASD; positive is better."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading

    def printed(self, metric: str, of: str, loss: str) -> Fraction:
        """The gain from the first to the second column of Tables 3 to 5."""
        cells = (self.reading.in_table(metric, of, loss, ssl) for ssl in (False, True))
        return self._gain(metric, *(Fraction(n.value) for n in cells))

    def of_folds(self, metric: str, of: str, loss: str) -> Fraction:
        """The gain of the mean over five folds; over classes 1 to 3 for FOREGROUND."""
        classes = TUMOUR if of == FOREGROUND else (of,)
        each = [self.of_fold(metric, k, loss, f) for k, f in product(classes, range(1, 6))]
        return sum(each, Fraction()) / len(each)

    def of_fold(self, metric: str, of: str, loss: str, fold: int) -> Fraction:
        """The gain in one fold."""
        cells = (self.reading.in_table(metric, of, loss, ssl, fold) for ssl in (False, True))
        return self._gain(metric, *(Fraction(n.value) for n in cells))

    def table_6(self, of: str, loss: str) -> Fraction:
        """The Dice gain from a loss's first to its second row of Table 6."""
        base = self.reading.in_table("dice", "ED", loss, False)
        values = [
            Fraction(n.value)
            for ssl in (False, True)
            for n in self.reading.same(base, of=of, ssl=ssl)
            if n.table == "6"
        ]
        return self._gain("dice", *values)

    def _gain(self, metric: str, baseline: Fraction, ssl: Fraction) -> Fraction:
        return baseline - ssl if metric == "asd_mm" else ssl - baseline


def _count(gains: list[Fraction]) -> str:
    better, worse = sum(g > 0 for g in gains), sum(g < 0 for g in gains)
    return f"better in {better}, equal in {len(gains) - better - worse} and worse in {worse}"


def _all_gains(gain: Callable[[str, str, str], Fraction], metric: str) -> list[Fraction]:
    return [gain(metric, k, loss) for loss, k in product(LOSSES, CLASSES)]


def _nearly_all_classes(gains: Gains) -> Verdict | None:
    printed, folds = _all_gains(gains.printed, "dice"), _all_gains(gains.of_folds, "dice")
    # 'Nearly all' is taken as all but one.
    if sum(g > 0 for g in printed) >= len(printed) - 1:
        return None
    asd = _all_gains(gains.printed, "asd_mm")
    return Verdict(
        "definite" if sum(g > 0 for g in folds) < len(folds) - 1 else "rounding",
        f"of 12 pairs in Tables 3 to 5 (3 losses, 4 classes) SSL's Dice is {_count(printed)} "
        f"as printed, and {_count(folds)} by the folds' means; its ASD is {_count(asd)}",
    )


def _focal_all_classes(gains: Gains) -> Verdict | None:
    not_better = [k for k in CLASSES if gains.printed("dice", k, "focal") <= 0]
    if not not_better:
        return None
    by_folds = [k for k in not_better if gains.of_folds("dice", k, "focal") <= 0]
    return Verdict(
        "definite" if by_folds else "rounding",
        f"as printed in Table 3 the Dice is not higher with SSL for {', '.join(not_better)}; "
        f"by the folds' means, for {', '.join(by_folds) or 'no class'}",
    )


def _more_pronounced(gains: Gains) -> Verdict | None:
    now, before = (gains.of_folds("dice", FOREGROUND, loss) for loss in ("dice_focal", "focal"))
    ed_now, ed_before = (gains.of_folds("dice", "ED", loss) for loss in ("dice_focal", "focal"))
    if now > before and ed_now > ed_before:
        return None
    return Verdict(
        "definite",
        f"by the folds' means the mean Dice gains {plain(now)} under Dice + Focal against "
        f"{plain(before)} under Focal Loss only, and that of ED {plain(ed_now)} against "
        f"{plain(ed_before)}",
    )


def _highest_increase(gains: Gains) -> Verdict | None:
    change = {loss: gains.of_folds("dice", FOREGROUND, loss) for loss in LOSSES}
    if max(change, key=lambda loss: change[loss]) == "dice_ce":
        return None
    each = ", ".join(f"{float(change[loss]):+.5f} under {name}" for loss, name in LOSSES.items())
    return Verdict("definite", f"by the folds' means the mean Dice changes by {each}")


def _edema_again(gains: Gains) -> Verdict | None:
    in_table_6, gain = gains.table_6("ED", "dice_ce"), gains.printed("dice", "ED", "dice_ce")
    if in_table_6 > 0:
        return None
    return Verdict(
        "definite" if gain <= 0 else "rounding",
        f"Table 6 prints a gain of {plain(in_table_6)} for the Dice of ED, Table 5 {plain(gain)}",
    )


def _small_regions(gains: Gains) -> Verdict | None:
    def over_losses(metric: str) -> dict[str, Fraction]:
        return {
            k: sum((gains.of_folds(metric, k, loss) for loss in LOSSES), Fraction()) / len(LOSSES)
            for k in TUMOUR
        }

    dice, asd = over_losses("dice"), over_losses("asd_mm")
    if min(dice["NCR/NET"], dice["ET"]) > dice["ED"] or min(asd["NCR/NET"], asd["ET"]) > asd["ED"]:
        return None
    each = ", ".join(f"{k} {float(dice[k]):+.4f} and {float(asd[k]):+.2f} mm" for k in TUMOUR)
    return Verdict(
        "definite",
        f"the gains in Dice and in ASD, averaged over the three losses, are {each} (positive is "
        "better); Section 5 names ED and ET instead",
    )


def _every_setting(gains: Gains) -> Verdict | None:
    def worse(gain: Callable[[str, str, str], Fraction], metric: str) -> list[str]:
        pairs = product(LOSSES, CLASSES)
        return [f"{k} ({LOSSES[loss]})" for loss, k in pairs if gain(metric, k, loss) < 0]

    dice, asd = worse(gains.printed, "dice"), worse(gains.printed, "asd_mm")
    by_folds = worse(gains.of_folds, "dice"), worse(gains.of_folds, "asd_mm")
    if not (dice or asd or any(by_folds)):
        return None
    hidden = [place for place in by_folds[0] if place not in dice]
    also = f", and by the folds' means for {'; '.join(hidden)} too" if hidden else ""
    return Verdict(
        "definite",
        f"in Tables 3 to 5 SSL has the lower Dice for {'; '.join(dice) or 'no class'}{also}, and "
        f"the larger ASD for {'; '.join(asd) or 'no class'}",
    )


def _most_configurations(gains: Gains) -> Verdict | None:
    printed = [gains.table_6(FOREGROUND, loss) for loss in LOSSES]
    folds = [gains.of_folds("dice", FOREGROUND, loss) for loss in LOSSES]
    if 2 * sum(g > 0 for g in printed) > len(printed):
        return None
    return Verdict(
        "rounding" if 2 * sum(g > 0 for g in folds) > len(folds) else "definite",
        f"Table 6's average Dice over the three losses is {_count(printed)} with SSL; by the "
        f"folds' means it is {_count(folds)}",
    )


def _asd_in_all_folds(gains: Gains) -> Verdict | None:
    pairs = [
        gains.of_fold("asd_mm", k, loss, fold)
        for loss, k, fold in product(LOSSES, CLASSES, range(1, 6))
    ]
    if all(gain > 0 for gain in pairs):
        return None
    worse = [
        f"{k} ({LOSSES[loss]})"
        for loss, k in product(LOSSES, CLASSES)
        if gains.of_folds("asd_mm", k, loss) < 0
    ]
    return Verdict(
        "definite",
        f"over {len(pairs)} cells of loss, class and fold SSL's ASD is {_count(pairs)}; its mean "
        f"over the folds is larger for {', '.join(worse) or 'none'}",
    )


def _remaining_folds(gains: Gains) -> Verdict | None:
    rest = [
        (f"{k} in fold {f}", gains.of_fold("asd_mm", k, "dice_ce", f))
        for f, k in product((1, 2, 3, 5), CLASSES)
    ]
    failing = [name for name, gain in rest if gain <= 0]
    if not failing:
        return None
    return Verdict(
        "definite",
        f"without fold 4 SSL's ASD under Dice + CE is {_count([g for _, g in rest])} of 16 "
        f"cells of class and fold; it is not smaller for {', '.join(failing)}",
    )


def _small_regions_are_farther(gains: Gains) -> Verdict | None:
    columns = list(product(LOSSES, (False, True)))
    values = {
        k: [gains.reading.in_table("asd_mm", k, loss, ssl).value for loss, ssl in columns]
        for k in TUMOUR
    }
    larger = {
        k: sum(a > b for a, b in zip(values[k], values["ED"], strict=True))
        for k in ("NCR/NET", "ET")
    }
    if min(larger.values()) == len(columns):
        return None
    return Verdict(
        "definite",
        f"in Tables 3 to 5 the ASD of ET is larger than that of ED in {larger['ET']} of "
        f"{len(columns)} columns, that of NCR/NET in {larger['NCR/NET']}; there is no TC",
    )


CLAIMS = (
    Claim(
        "Abstract",
        "slightly higher Dice scores and lower ASD values across most configurations",
        _most_configurations,
    ),
    Claim(
        "Section 4.4.4",
        "consistently resulted in improvements in nearly all classes",
        _nearly_all_classes,
    ),
    Claim(
        "Section 4.4.4",
        "in the Focal Loss only scenario, SSL assisted in improving the dice scores slightly "
        "for all classes",
        _focal_all_classes,
    ),
    Claim(
        "Section 4.4.4",
        "In the Dice + Focal loss configuration, the SSL weights showed even more pronounced "
        "improvements",
        _more_pronounced,
    ),
    Claim(
        "Section 4.4.4",
        "With Dice + CE, SSL provided the highest increase in overall segmentation performance",
        _highest_increase,
    ),
    Claim("Section 4.4.4", "Edema (Class 2) again showed improvement", _edema_again),
    Claim(
        "Section 4.4.4",
        "SSL-initialized weights provide consistent benefits, particularly when the segmentation "
        "task is challenged by an imbalanced dataset or one containing small tumour subregions, "
        "such as those found in NCR/NET or ET",
        _small_regions,
    ),
    Claim(
        "Section 4.4.4",
        "SSL initialization not only improves Dice but also yields more precise and smoother "
        "tumour boundaries",
        _every_setting,
    ),
    Claim(
        "Section 4.4.4",
        "Its benefits are especially evident in scenarios involving class imbalance and small "
        "tumour subregions, such as NCR/NET and ET",
        _small_regions,
    ),
    Claim("Section 4.4.4", "SSL generally reduced ASD across all folds", _asd_in_all_folds),
    Claim(
        "Section 4.4.4",
        "Despite this outlier, the remaining folds show consistent improvements in boundary "
        "alignment",
        _remaining_folds,
    ),
    Claim(
        "Section 4.5",
        "small and disconnected tumour subregions, such as TC and ET, as supported by the lower "
        "Dice scores and higher ASD values reported for these classes",
        _small_regions_are_farther,
    ),
    Claim(
        "Section 5",
        "Across all settings, models initialized with SSL consistently outperformed their "
        "randomly initialized counterparts in terms of Dice scores and ASD",
        _every_setting,
    ),
)


def check_claims(reading: Reading) -> Iterator[Finding]:
    """Yields a finding for each of `CLAIMS` that the numbers contradict."""
    gains = Gains(reading)
    for claim in CLAIMS:
        verdict = claim.test(gains)
        if verdict is not None:
            sentence = f"The paper says '{claim.quote}' ({claim.where}), but {verdict.expected}."
            yield Finding(
                claim.where, (), claim.quote, verdict.expected, verdict.kind, "claim", sentence
            )
