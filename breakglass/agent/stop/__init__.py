# SPDX-License-Identifier: Apache-2.0
"""The ladder: stop containers by the runtime or the kernel, and look until they are down.

Reason to change: how a container is stopped, or what counts as seen down.
May touch: containers, through the runtime and the kernel's kill.  It sets no limits.
Promises: "down" is what a look after the last act showed, never what a call answered (P5).
"""
