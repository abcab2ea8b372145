"""From records to the table and the report. Imports no other room."""
