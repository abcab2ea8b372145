"""The output of stages: files written atomically, and a typed record for each artifact."""
