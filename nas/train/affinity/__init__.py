"""How alike tasks are, and where a network for them may part."""

from nas.train.affinity.covariance import covariance_similarity, principal, shared_width
from nas.train.affinity.gradients import gradient_cosines
from nas.train.affinity.proposal import initial_alpha, propose
from nas.train.affinity.representations import representations
from nas.train.affinity.rsa import closeness, image_similarity, rsa_affinity

__all__ = [
    "closeness",
    "covariance_similarity",
    "gradient_cosines",
    "image_similarity",
    "initial_alpha",
    "principal",
    "propose",
    "representations",
    "rsa_affinity",
    "shared_width",
]
