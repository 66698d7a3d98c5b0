# SPDX-License-Identifier: Apache-2.0
"""What a delivery reports of a command while it is carried out: one kind for every layer.

The values of `ProgressKind` are the names of the fields in `Progress` of proto/breakglass/v1.
"""

from dataclasses import dataclass
from enum import StrEnum

from breakglass.core.reasons import Refused


class ProgressKind(StrEnum):
    """Which step was taken and recorded."""

    REFUSED = "refused"
    ACCEPTED = "accepted"
    POD = "pod"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One step of a delivery.

    Attributes:
        kind: which step.
        index: the entry that records it; None for a refusal that was only counted.
        refused: why, where the file was refused.
        repeated: it was delivered before; this is the first outcome and nothing was done again.
    """

    kind: ProgressKind
    index: int | None = None
    refused: Refused | None = None
    repeated: bool = False
