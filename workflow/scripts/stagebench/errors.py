"""The one error that is meant for users."""

from __future__ import annotations


class StagebenchError(Exception):
    """An error that a user can act on: its text is one line that says what is wrong, where, and what to do."""
