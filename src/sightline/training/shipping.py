"""How long what follows training will take: export, test and report."""

from __future__ import annotations

from sightline.training.session import Session

# The exporter's time for a small network, and for how many parameters it takes a second longer.
EXPORT_SECONDS, PARAMETERS_A_SECOND = 10.0, 20e6
# What judging an image with the bundle takes at most of a forward pass of the trained network; reading it is counted apart.
JUDGING = 1.5


def shipping_seconds(session: Session, forward: float) -> float:
    """Seconds from the trained network to the finished report, where a forward pass takes ``forward`` seconds an image."""
    n_validation, n_test = len(session.validation), session.n_test
    parameters = sum(parameter.numel() for parameter in session.network.parameters())
    judging = n_validation * (session.read_seconds + forward) + n_test * (session.read_seconds + JUDGING * forward)
    return EXPORT_SECONDS + parameters / PARAMETERS_A_SECOND + judging
