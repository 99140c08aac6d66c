"""Snakemake's door to `nir.pipeline.progress`: chosen by ``logger: nir`` in the profile."""

from __future__ import annotations

from logging import LogRecord

from snakemake_interface_logger_plugins.base import LogHandlerBase

from nir.pipeline.progress import StepLines
from nir.surroundings import settle

settle()  # Snakemake loads its plugins before it makes its cache in the home folder


class LogHandler(LogHandlerBase):
    """Print one line for each finished step."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Start with nothing done."""
        self.lines = StepLines()

    def emit(self, record: LogRecord) -> None:
        """Follow one event."""
        self.lines.follow(record)
