"""Problems that tests of `solve` share: a masked random field, and operators of users."""

from tests.posteriors import random_field
from tweedie_inverse import operators as ops

FIELD = random_field(8)
MASK = ops.Mask(ops.random_mask((1, 8, 8), 0.4), noise=ops.GaussianNoise(0.1))
Y = MASK.measure(FIELD.draw(5, seed=1), seed=2)


class UserOperator(ops.LinearOperator):
    """Ten lines of a user: horizontal differences, forward only."""

    def __init__(self):
        super().__init__(
            domain_shape=(1, 8, 8), range_shape=(1, 8, 7), noise=ops.GaussianNoise(0.05)
        )

    def forward(self, x):
        return x[..., 1:] - x[..., :-1]


class NonLinear(ops.Operator):
    def __init__(self):
        super().__init__(
            domain_shape=(1, 8, 8), range_shape=(1, 8, 8), noise=ops.GaussianNoise(0.1)
        )

    def forward(self, x):
        return x.square()
