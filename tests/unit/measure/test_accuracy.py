"""Predictions and accuracies, against plain definitions."""

import numpy as np

from stagebench.measure import accuracy, rates


def test_top5_is_what_sorting_gives():
    logits = np.random.default_rng(0).normal(size=(50, 1000)).astype(np.float32)
    classes, values = accuracy.top5(logits)
    assert np.array_equal(classes, np.argsort(-logits, axis=1)[:, :5])
    assert np.array_equal(values, -np.sort(-logits, axis=1)[:, :5])


def test_of_equal_logits_the_lower_class_comes_first():
    logits = np.zeros((1, 10), np.float32)
    logits[0, [7, 3, 5]] = 1.0
    logits[0, [9, 8]] = 0.5
    classes, _ = accuracy.top5(logits)
    assert classes.tolist() == [[3, 5, 7, 8, 9]]


def test_accuracy_is_the_share_of_hits_in_percent():
    classes = np.array([[1, 2, 3, 4, 5], [9, 1, 3, 4, 5], [7, 8, 9, 10, 11], [1, 2, 3, 4, 5]], np.int16)
    labels = np.array([1, 1, 1, 1], np.int16)
    assert accuracy.accuracy(classes, labels, 1) == 50.0
    assert accuracy.accuracy(classes, labels, 5) == 75.0


def test_an_image_is_unsteady_where_any_pass_differs():
    same = np.zeros((3, 4, 5), np.int16)
    assert accuracy.unsteady(same) == 0
    same[1, 2, 4] = 1
    same[2, 2, 0] = 1
    same[2, 3, 0] = 1
    assert accuracy.unsteady(same) == 2


def test_a_rate_weighs_passes_by_their_time():
    assert rates.rate(100, [1.0, 3.0]) == 50.0
    assert rates.rate(100, []) is None
    assert rates.reciprocal_us(11710.0) == 1e6 / 11710.0
