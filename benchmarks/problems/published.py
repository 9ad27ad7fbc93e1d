"""Published denoisers as priors, from a folder of their weights: nothing about them is measured.

ffdnet     Zhang et al. 2018, colour, sigma 1/255 to 75/255 (weights of KAIR)
dncnn6n    grey, with a noise map, sigma up to 0.2 (weights of scico, LANL)
"""

from pathlib import Path

import tweedie_inverse as ti
from tweedie_inverse.priors.network import NetworkPrior

# The file of each.
PUBLISHED = {
    "ffdnet": "ffdnet-color.safetensors",
    "dncnn6n": "scico-dncnn6N.safetensors",
}


def published_prior(name: str, folder: str | Path) -> NetworkPrior:
    """A published denoiser from the folder of its weights, for images of 64x64 and more.

    Raises:
        FileNotFoundError: the folder has no such file.
    """
    path = Path(folder) / PUBLISHED[name]
    if not path.is_file():
        raise FileNotFoundError(f"published_prior({name!r}): there is no file {path}")
    prior = ti.load_prior(path)
    assert isinstance(prior, NetworkPrior)
    prior.name = name
    return prior
