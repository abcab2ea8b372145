"""The labels of a data set's images."""
