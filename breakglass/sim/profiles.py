# SPDX-License-Identifier: Apache-2.0
"""Where kinds of runtimes answer differently, as measured."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How one kind of runtime answers where they differ."""

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
