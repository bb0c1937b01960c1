"""Writes the report: one page, and a file for each table and figure.

WORKDIR/report.html                the page, self-contained
WORKDIR/report/NAME.{csv,md,tex}   the tables
WORKDIR/report/figures/            the figures
"""

from datetime import UTC, datetime
from pathlib import Path

import jinja2

from brats_jax import about
from brats_jax.reporting.figures.figure import Figure
from brats_jax.reporting.read_runs import Study, discover
from brats_jax.reporting.sections import Section, build
from brats_jax.reporting.tables import formats
from brats_jax.reporting.tables.table import Table, letter
from brats_jax.runs.folder import ReportFolder
from brats_jax.runtime.files import write_text


def write_report(workdir: Path) -> Path:
    """Writes report.html and the folder report/ into a run, a grid, or a folder of runs.

    Returns:
      The path of the page.

    Raises:
      BratsError: there is no run in the folder.
    """
    study = discover(workdir)
    sections = build(study)
    folder = ReportFolder(workdir)
    # An earlier report may have tables that this one lacks.
    for path in list(folder.written()):
        path.unlink()
    for section in sections:
        for block in section.blocks:
            if isinstance(block, Table):
                formats.write(block, folder.tables)
            elif isinstance(block, Figure):
                block.write(folder.figures)
    write_text(folder.report_html, render(study, sections))
    return folder.report_html


def render(study: Study, sections: list[Section]) -> str:
    """The page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("brats_jax.reporting", "template"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["letter"] = letter
    return environment.get_template("page.html").render(
        title=study.workdir.resolve().name,
        sections=sections,
        made=datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
        version=about.__version__,
        folder=ReportFolder(study.workdir).tables.name,
    )
