"""The one error that is meant for users, and the kind of it that leaves no trace."""

from __future__ import annotations


class StagebenchError(Exception):
    """An error that a user can act on: its text is one line that says what is wrong, where, and what to do."""


class UnrecordedError(StagebenchError):
    """An error that says nothing about what was to be made: a full disk, a changed file, a job that was ended.

    No record is written for it; the rule fails, and the next run tries again.
    """


def says_out_of_memory(text: str) -> bool:
    """Return whether a library's error says in its own words that memory ran out."""
    words = text.lower().replace("_", " ")
    return any(phrase in words for phrase in ("memoryerror", "out of memory", "can't allocate memory", "bad alloc"))
