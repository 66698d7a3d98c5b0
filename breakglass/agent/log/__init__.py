# SPDX-License-Identifier: Apache-2.0
"""The node's audit log: durable entries, their Merkle tree, and the state folded from them.

Reason to change: how an entry becomes durable, or how a log is read and verified.
May touch: the state directory.  It knows no pods, no runtime and no control groups.
Promises: an entry that `Journal.record` returned is on the disk.  A log that contradicts itself is
an error; the agent never repairs it silently (P4).
"""
