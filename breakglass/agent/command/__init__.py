# SPDX-License-Identifier: Apache-2.0
"""The numbered procedure: what the node does with a signed file, from delivery to outcome.

Reason to change: the order of a command's steps, or what a verb does.
May touch: nothing by itself; it acts through the wings below it.
Promises: only a command that `decide` approved and the log has accepted is carried out, once, and
to its end (P2, P4, P7).
"""
