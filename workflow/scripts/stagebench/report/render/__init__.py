"""The report's files: tables and sentences formatted for readers."""
