# SPDX-License-Identifier: Apache-2.0
"""The measured differences between container runtimes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How one runtime answers where runtimes differ.

    Attributes:
        unknown_ids_are_ok: whether it answers OK to an unknown id.
        finishes_stops: whether it finishes a stop after its caller has disconnected.
    """

    name: str
    version: str
    unknown_ids_are_ok: bool
    finishes_stops: bool


CONTAINERD_1_6 = Profile(
    name="containerd", version="1.6.20", unknown_ids_are_ok=False, finishes_stops=False
)
CONTAINERD_2_1 = Profile(
    name="containerd", version="2.1.9", unknown_ids_are_ok=True, finishes_stops=False
)
CRIO_1_35 = Profile(name="cri-o", version="1.35.6", unknown_ids_are_ok=True, finishes_stops=True)
