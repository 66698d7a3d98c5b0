# SPDX-License-Identifier: Apache-2.0
"""The roads (transports) from the bastion to a node, and asking many nodes at once.

Reason to change: how bytes reach a node.
May touch: the network, by IP address.
Promises: every road delivers the same bytes, so the verdict is the same (P10); a road trusts no
answer.
"""
