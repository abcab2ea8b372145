"""Common parts of every job: its frame and log, supervised children, and the digest of the code it runs."""
