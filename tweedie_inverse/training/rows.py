"""The training template's rows by name: what the network predicts, at which noise, how weighted.

Park et al. 2024, table 1 (v1), and the methods after it.  Every row is the template's
``E[ w(sigma) || x0 - D(x0 + sigma n, sigma) ||^2 ]`` and at the same time the method's own loss;
`tests/test_training.py` proves the two equal.  Any row can be sampled with any recipe and schedule.
"""

from typing import NamedTuple

from tweedie_inverse.priors.parameterizations import Parameterization


class TrainingRow(NamedTuple):
    """Names in `NetworkPrior`'s parameterizations, `NOISE_LEVELS` and `WEIGHTS`."""

    parameterization: Parameterization
    noise_levels: str
    weight: str


TRAINING_ROWS: dict[str, TrainingRow] = {
    # The paper's cell for NCSN and the VE-SDE, as printed.
    "ncsn-printed": TrainingRow("score", "uniform", "inverse-fourth"),
    # The same two as they were actually trained: lambda(sigma) = sigma^2 (Song and Ermon 2019).
    "ncsn": TrainingRow("score", "geometric", "inverse-square"),
    "ve-sde": TrainingRow("score", "log-uniform", "inverse-square"),
    # The paper's cell for DDPM and the VP-SDE: L_simple (Ho et al. 2020).
    "ddpm": TrainingRow("epsilon", "ddpm", "inverse-square"),
    # L_simple of Nichol and Dhariwal 2021; their variational term trains the variance only.
    "improved-ddpm": TrainingRow("epsilon", "cosine", "inverse-square"),
    # Salimans and Ho 2022, the v-prediction loss on the cosine schedule.
    "v": TrainingRow("v", "cosine", "snr-plus-one"),
    # Karras et al. 2022.
    "edm": TrainingRow("edm", "log-normal", "edm"),
    # Lipman et al. 2023 and Liu et al. 2023, the straight path; logit-normal: Esser et al. 2024.
    "flow": TrainingRow("flow", "straight-path", "flow"),
    "flow-logit-normal": TrainingRow("flow", "logit-normal", "flow"),
}
