# SPDX-License-Identifier: Apache-2.0
"""Ask the runtime which OCI runtime makes a pod's containers, and where the pod's group is.

Each sandbox is asked for once: neither changes while it lives.  When the container runtime does not
answer, the OCI runtime stays unknown, which counts as the kind that is harder to hold.
"""

from breakglass.agent.runtime.port import Runtime
from breakglass.core.gates import Oci
from breakglass.core.pods import Pod
from breakglass.errors import RuntimeTooOld, RuntimeUnavailable

_MAX_KNOWN = 10_000
_UNKNOWN = Oci.UNKNOWN, ""


class OciRuntimes:
    """Caches each sandbox's OCI runtime and cgroup path."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._known: dict[str, tuple[Oci, str]] = {}

    async def of(self, pod: Pod, *, ask: bool) -> tuple[Oci, str]:
        """Return the pod's OCI runtime and its group's path; unknown and "" without an answer.

        Args:
            pod: the pod; its newest sandbox is the one asked for.
            ask: whether to ask the runtime for what is not cached.
        """
        known = self._known.get(pod.sandbox_id)
        if known is not None or not ask or not pod.sandbox_id:
            return known or _UNKNOWN
        try:
            look = await self._runtime.sandbox(pod.sandbox_id)
        except (RuntimeUnavailable, RuntimeTooOld):
            return _UNKNOWN
        if look is None:
            return _UNKNOWN
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[pod.sandbox_id] = look.oci, look.cgroup_parent
        return self._known[pod.sandbox_id]
