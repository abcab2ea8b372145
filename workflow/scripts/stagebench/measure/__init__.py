"""From images and an engine to timings and predictions."""
