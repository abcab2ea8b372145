"""Stagebench: ResNet-50 image classification inference, measured from the archive to the report.

Rooms, from the ground up; each imports from itself and from those before it: `errors`, `vocabulary`, `preprocessing`;
`records`; `host`; `job`; `dataset`; `model`; `engines`; `measure`. `report` imports from the vocabulary and the records
alone. `config` sits on top of all of them, and only the rules import it.
"""
