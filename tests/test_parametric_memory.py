"""Operators of unknown numbers are large: no more of them live than are in use."""

import gc
import weakref

import tweedie_inverse as ti
from tests.posteriors import random_field
from tweedie_inverse import operators as ops

WALKERS = 3


def test_operators_that_were_tried_do_not_stay():
    alive: weakref.WeakSet[ops.LinearOperator] = weakref.WeakSet()
    most, made = 0, 0

    def scan(offset):
        nonlocal most, made
        operator = ops.Tomography((1, 8, 8), [0.0, 50.0, 100.0], 11, detector_offset=offset)
        alive.add(operator)
        made += 1
        if made % 20 == 0:
            gc.collect()  # those in cycles may wait
            most = max(most, len(alive))
        return operator

    operator = ops.parametric(scan, offset=(-2.0, 2.0), noise=ops.GaussianNoise(0.1))
    y = operator.at(offset=0.5).measure(random_field(8).draw(1, seed=1)[0], seed=2)
    ti.solve(y, operator, random_field(8), num_samples=WALKERS, steps=6)
    assert made > 150
    # The search for a beginning has a grid of 13 places and its neighbours.
    assert most < 60
    gc.collect()
    assert len(alive) < 3 + 6 * WALKERS
