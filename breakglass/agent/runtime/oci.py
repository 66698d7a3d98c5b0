# SPDX-License-Identifier: Apache-2.0
"""Which program makes a pod's containers, and where its control group is, by the runtime's word.

Asked once for each sandbox: neither changes while it lives.  A runtime that does not answer leaves
the program unknown, which counts as the one that is harder to hold.
"""

from breakglass.agent.runtime.port import Runtime
from breakglass.core.gates import Oci
from breakglass.core.pods import Pod
from breakglass.errors import RuntimeTooOld, RuntimeUnavailable

_MAX_KNOWN = 10_000
_UNKNOWN = Oci.UNKNOWN, ""


class OciRuntimes:
    """What the runtime has told of its sandboxes."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._known: dict[str, tuple[Oci, str]] = {}

    async def of(self, pod: Pod, *, ask: bool) -> tuple[Oci, str]:
        """Return the program and the runtime's path of the pod's group, "" where it is not known.

        Args:
            pod: by its newest sandbox.
            ask: whether there is time to ask the runtime, and sense in it.
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
