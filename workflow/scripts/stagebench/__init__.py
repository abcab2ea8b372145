"""Stagebench: ResNet-50 image classification inference, measured from the archive to the report.

Five rooms, in the order of the data's way: `dataset`, `model`, `engines`, `measure`, `report`. A room imports from
the shared modules beside this file, from itself and from the rooms before it; `report` reads records only.
"""
