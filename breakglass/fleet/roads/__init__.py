# SPDX-License-Identifier: Apache-2.0
"""The roads from the bastion to a node, and asking many nodes at once.

Reason to change: how bytes reach a node.
May touch: the network, by IP address.
Promises: any road carries the same bytes to the same verdict (P10); a road believes no answer.
"""
