"""The report of a run, a grid or a folder of runs: one HTML page, its tables and figures as files.

Order of the work: read_runs (files) -> arms (evaluations by arm) -> comparisons (statistics,
comparison_sentences) -> tables/, figures/, conclusions, caveats, provenance -> sections -> page
(template/). paper/ holds the numbers that the paper prints, and finds its contradictions.
"""
