# SPDX-License-Identifier: Apache-2.0
"""Which active holds cover which pods, as the log and the last listing say at the moment of asking.

A gated pod is looked up in the last listing, so that its revision and image count; one that the
runtime has never shown is covered by its name.  Nothing is kept here: an answer holds until the
next entry of the log.
"""

from collections.abc import Iterable
from typing import Protocol

from breakglass.agent.log.journal import Journal
from breakglass.core.holds import Covers, GatedPod, Hold, coverage
from breakglass.core.pods import Pod


class KnownPods(Protocol):
    """What knows pods as the runtime showed them last."""

    def last_seen(self, uid: str) -> Pod | None:
        """Return a pod as the runtime showed it last, None where it never did."""
        ...


class Coverage:
    """Answers which holds cover a pod now."""

    def __init__(self, journal: Journal, known: KnownPods) -> None:
        self._journal = journal
        self._known = known

    @property
    def active(self) -> tuple[Hold, ...]:
        """The holds that keep anything down."""
        return self._journal.state.active_holds

    @property
    def gated(self) -> tuple[GatedPod, ...]:
        """The pods whose groups carry limits of ours."""
        return tuple(self._journal.state.gates.values())

    def of(self, pod: Pod) -> tuple[Covers, tuple[Hold, ...]]:
        """Return whether any active hold covers a pod, and which do."""
        return coverage(self.active, pod)

    def holds_of(self, gated: GatedPod) -> tuple[Hold, ...]:
        """Return the active holds that keep a gated pod, the one it was gated for first."""
        held = [hold for hold in self.active if self._is_covered(gated, (hold,))]
        return tuple(sorted(held, key=lambda hold: hold.id != gated.hold))

    def kept_by(self, holds: Iterable[Hold]) -> tuple[GatedPod, ...]:
        """Return the gated pods that these holds keep down, alone or with others."""
        meant = tuple(holds)
        return tuple(gated for gated in self.gated if self._is_covered(gated, meant))

    def kept_only_by(self, holds: Iterable[Hold]) -> tuple[GatedPod, ...]:
        """Return the gated pods that nothing would keep down without these holds."""
        meant = tuple(holds)
        others = tuple(hold for hold in self.active if hold not in meant)
        return tuple(gated for gated in self.gated if not self._is_covered(gated, others))

    def _is_covered(self, gated: GatedPod, holds: tuple[Hold, ...]) -> bool:
        pod = self._known.last_seen(gated.uid) or Pod.known_by_name(
            uid=gated.uid, namespace=gated.namespace, name=gated.name
        )
        return coverage(holds, pod)[0] is not Covers.NO
