"""The machine: what it is, its environment and memory, its GPU, and the lock of timed runs."""
