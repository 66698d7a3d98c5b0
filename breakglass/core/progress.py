# SPDX-License-Identifier: Apache-2.0
"""The progress of a delivered command, as every layer passes it on.

The values of `ProgressKind` are the names of the fields in `Progress` of proto/breakglass/v1.
"""

from dataclasses import dataclass
from enum import StrEnum

from breakglass.core.reasons import Refused


class ProgressKind(StrEnum):
    """The step of a command that was recorded."""

    REFUSED = "refused"
    ACCEPTED = "accepted"
    POD = "pod"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One step of a delivery.

    Attributes:
        kind: the step.
        index: the index of its log entry; None for a refusal that was only counted.
        refused: why the file was refused; None otherwise.
        repeated: the file was delivered before: this is the first outcome, and nothing was done
            again.
    """

    kind: ProgressKind
    index: int | None = None
    refused: Refused | None = None
    repeated: bool = False
