"""The paper's tables and the numbers in its running text, as printed.

Every number is kept as the printed text, digit for digit ('0.33' and '2.70' too, in columns
of three decimals), because the checks reason about its rounding. `TABLES` has the printed
layout; `printed_numbers` gives the same cells as records with a meaning.

Reference: R. Umesh Kalyanappa, Early Fusion-based Self-Supervised Learning with
Cross-Modality Prediction for Brain Tumour Segmentation, Satakunta University of Applied
Sciences, 2025 (the thesis that this package reproduces; "the paper" throughout).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

# The paper's classes 0 to 3, and its losses, under this package's names for them.
CLASSES = ("background", "NCR/NET", "ED", "ET")
LOSSES = {"focal": "Focal Loss only", "dice_focal": "Dice + Focal", "dice_ce": "Dice + CE"}
FOREGROUND = "mean foreground"

# loss -> (table of the means over folds, appendix table of the folds)
TABLES_OF_LOSS = {"focal": ("3", "A2"), "dice_focal": ("4", "A3"), "dice_ce": ("5", "A4")}

BASELINE, SSL = "Baseline", "SSL (pretrained)"


class PrintedTable(NamedTuple):
    """One table: title ('Appendix Table 2'), caption, column heads, rows of cells as printed."""

    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


_FOLD_COLUMNS = (
    "Pipeline",
    "Fold",
    *(f"Dice Class {k}" for k in range(4)),
    *(f"ASD Class {k}" for k in range(4)),
)
_MEAN_COLUMNS = ("Metric / Class", BASELINE, SSL)


def _cells(text: str) -> tuple[tuple[str, ...], ...]:
    """Rows of cells from a block of text: one line a row, two or more spaces between cells."""
    lines = (line.strip() for line in text.strip().splitlines())
    return tuple(tuple(cell.strip() for cell in line.split("  ") if cell) for line in lines)


def _mean_rows(baseline: str, ssl: str) -> tuple[tuple[str, ...], ...]:
    """The rows of Tables 3 to 5 from their two columns of numbers."""
    return tuple(zip(_FOLD_COLUMNS[2:], baseline.split(), ssl.split(), strict=True))


def _fold_rows(baseline: str, ssl: str) -> tuple[tuple[str, ...], ...]:
    """The rows of Appendix Tables 2 to 4, where the paper prints the pipeline above its five."""
    return tuple(
        (pipeline, *line.split())
        for pipeline, block in ((BASELINE, baseline), (SSL, ssl))
        for line in block.strip().splitlines()
    )


def _mean_caption(loss: str) -> str:
    return (
        "Comparison of average Dice coefficient and ASD across four tumour classes between the "
        f"baseline and SSL pipelines, using {loss}."
    )


def _fold_caption(loss: str) -> str:
    return (
        "Comparison of Dice coefficient and ASD scores per fold across four tumour classes "
        f"between the baseline and SSL pipelines, using {loss}."
    )


TABLES: Mapping[str, PrintedTable] = MappingProxyType(
    {
        "1": PrintedTable(
            "Table 1",
            "Average performance metrics for the SSL reconstruction task across five folds. "
            "Metrics include MSE, PSNR, and SSIM.",
            ("Quality Metric", "Average"),
            (("MSE", "0.038"), ("PSNR (dB)", "29.770"), ("SSIM", "0.916")),
        ),
        "2": PrintedTable(
            "Table 2",
            "Experimental configurations for the segmentation models. Each configuration varies "
            "according to the loss function and whether pretraining was used.",
            ("Experiment ID", "Self-supervised initialization", "Loss Function"),
            _cells("""
                A-base  No   Dice+Cross-Entropy loss (1/2+1/2)
                A-SSL   Yes  Dice+Cross-Entropy loss (1/2+1/2)
                B-base  No   Dice +Focal Loss (1+1, γ=2)
                B-SSL   Yes  Dice +Focal Loss (1+1, γ=2)
                C-base  No   Focal Loss Only (γ = 2)
                C-SSL   Yes  Focal Loss Only (γ = 2)"""),
        ),
        "3": PrintedTable(
            "Table 3",
            _mean_caption("Focal Loss only"),
            _MEAN_COLUMNS,
            _mean_rows(
                "0.999 0.182 0.310 0.194 0.500 2.430 4.280 2.660",
                "0.999 0.184 0.314 0.195 0.180 1.760 2.460 1.170",
            ),
        ),
        "4": PrintedTable(
            "Table 4",
            _mean_caption("Dice + Focal Loss"),
            _MEAN_COLUMNS,
            _mean_rows(
                "0.999 0.186 0.322 0.198 0.750 2.750 3.140 1.430",
                "0.999 0.186 0.324 0.198 0.540 1.850 2.670 1.310",
            ),
        ),
        "5": PrintedTable(
            "Table 5",
            _mean_caption("Dice + CrossEntropy Loss"),
            _MEAN_COLUMNS,
            _mean_rows(
                "0.999 0.187 0.327 0.198 0.180 3.460 2.70 1.560",
                "0.999 0.184 0.329 0.199 0.300 8.930 1.910 1.770",
            ),
        ),
        "6": PrintedTable(
            "Table 6",
            "Comprehensive evaluation of segmentation performance based on average Dice scores of "
            "fully supervised learning and Self-supervised learning. Best results are highlighted.",
            (
                "Method",
                "Supervision",
                "NCR/NET (Class 1)",
                "ED (Class 2)",
                "ET (Class 3)",
                "Average Dice Score",
            ),
            _cells("""
                Dice+Focal  Fully Supervised (No SSL)  0.186  0.323  0.198  0.236
                Dice+Focal  Self-supervised (SSL)      0.187  0.324  0.198  0.236
                Focal Only  Fully Supervised (No SSL)  0.182  0.310  0.194  0.228
                Focal Only  Self-supervised (SSL)      0.184  0.314  0.195  0.230
                Dice+CE     Fully Supervised (No SSL)  0.188  0.330  0.190  0.238
                Dice+CE     Self-supervised (SSL)      0.184  0.330  0.199  0.238"""),
        ),
        "A1": PrintedTable(
            "Appendix Table 1",
            "Fold-wise SSL reconstruction performance using MSE, PSNR, and SSIM metrics. The best "
            "results are highlighted.",
            ("Fold", "MSE", "PSNR (dB)", "SSIM"),
            _cells("""
                1  0.038  30.270  0.929
                2  0.039  29.660  0.921
                3  0.038  29.290  0.893
                4  0.038  29.850  0.921
                5  0.038  29.790  0.918"""),
        ),
        "A2": PrintedTable(
            "Appendix Table 2",
            _fold_caption("Focal Loss only"),
            _FOLD_COLUMNS,
            _fold_rows(
                """1 0.998 0.181 0.310 0.194 1.350 2.760 6.010 2.860
                   2 0.999 0.181 0.310 0.195 0.200 2.070 2.410 1.130
                   3 0.999 0.184 0.312 0.194 0.190 1.650 2.440 1.270
                   4 0.999 0.183 0.314 0.194 0.200 1.710 2.320 1.140
                   5 0.999 0.181 0.304 0.191 0.580 3.950 8.240 6.880""",
                """1 0.999 0.185 0.316 0.194 0.190 1.830 2.740 1.270
                   2 0.999 0.182 0.311 0.194 0.180 1.710 2.540 1.200
                   3 0.999 0.185 0.314 0.195 0.170 1.880 2.370 1.120
                   4 0.999 0.182 0.314 0.195 0.170 1.700 2.240 1.080
                   5 0.999 0.184 0.312 0.194 0.200 1.690 2.420 1.190""",
            ),
        ),
        "A3": PrintedTable(
            "Appendix Table 3",
            _fold_caption("Dice + Focal Loss"),
            _FOLD_COLUMNS,
            _fold_rows(
                """1 0.999 0.185 0.321 0.198 0.410 2.150 4.020 1.830
                   2 0.999 0.187 0.324 0.198 0.420 3.970 2.900 1.360
                   3 0.999 0.186 0.324 0.199 0.360 1.850 2.830 1.290
                   4 0.999 0.186 0.321 0.199 0.420 3.860 3.300 1.330
                   5 0.998 0.185 0.324 0.199 2.140 1.940 2.640 1.330""",
                """1 0.999 0.186 0.325 0.199 0.330 1.840 2.630 1.320
                   2 0.999 0.188 0.324 0.198 0.790 1.900 2.710 1.340
                   3 0.999 0.187 0.325 0.197 0.390 1.840 2.840 1.300
                   4 0.999 0.187 0.324 0.198 0.600 1.860 2.700 1.300
                   5 0.999 0.185 0.324 0.198 0.310 1.840 2.450 1.290""",
            ),
        ),
        "A4": PrintedTable(
            "Appendix Table 4",
            _fold_caption("Dice + CrossEntropy Loss"),
            _FOLD_COLUMNS,
            _fold_rows(
                """1 0.999 0.187 0.329 0.199 0.150 1.830 1.850 1.170
                   2 0.999 0.190 0.327 0.199 0.140 1.840 2.020 1.140
                   3 0.999 0.183 0.324 0.197 0.280 9.630 5.250 3.170
                   4 0.999 0.188 0.328 0.199 0.160 1.820 2.020 1.170
                   5 0.998 0.187 0.33 0.199 0.190 2.180 2.360 1.150""",
                """1 0.999 0.189 0.330 0.200 0.140 1.750 1.860 1.120
                   2 0.999 0.189 0.329 0.200 0.140 1.710 1.910 1.140
                   3 0.999 0.188 0.329 0.198 0.130 1.690 1.620 1.160
                   4 0.999 0.164 0.330 0.199 0.920 37.610 2.150 4.070
                   5 0.999 0.188 0.329 0.200 0.170 1.870 1.960 1.350""",
            ),
        ),
        # Not a printed table: the numbers quoted in the running text, '' where it quotes none.
        "text": PrintedTable(
            "Running text",
            "Results quoted in the running text, by section.",
            ("Section", "Quantity", BASELINE, SSL),
            (
                ("4.3.2", "MSE", "", "0.0381"),
                ("4.3.2", "PSNR (dB)", "", "29.77"),
                ("4.3.2", "SSIM", "", "0.916"),
                ("4.4.4", "Mean Dice, Focal Loss only", "0.2286", "0.2305"),
                ("4.4.4", "Dice Class 2, Dice + Focal", "0.3228", "0.3244"),
                ("4.4.4", "ASD Class 2 (mm), Focal Loss only", "4.28", "2.46"),
                ("4.4.4", "ASD Class 2 (mm), Dice + Focal", "3.14", "2.67"),
                ("4.4.4", "ASD Class 1 (mm), Dice + CE, fold 4", "", "37.610"),
            ),
        ),
    }
)
