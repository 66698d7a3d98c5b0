# SPDX-License-Identifier: Apache-2.0
"""Real things to try breakglass against: a containerd, pods as kubelet shapes them, two hosts.

For tests, benchmarks and the demo, never for the product: nothing under `breakglass/` imports this
package, and it is in no wheel.  Everything started here is ended here, by the process ids, the
directories and the cgroups it made itself; a containerd, a cgroup or a network namespace that was
there before is never touched.
"""


class LabUnavailable(Exception):
    """What that part of the lab needs is missing on this machine; the message says what."""
