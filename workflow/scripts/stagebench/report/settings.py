"""What a report is of, as the workflow plans it."""

from __future__ import annotations

from stagebench.records.envelope import Value


class ReportSettings(Value):
    """Settings of a report, from the config."""

    #: SHA-256 of the checked config, defaults included.
    config_sha256: str
    #: The one precision that the rows have; null for a report of all.
    precision: str | None
    #: Sentences on how the config was understood.
    notes: tuple[str, ...]
