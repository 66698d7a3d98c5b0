# SPDX-License-Identifier: Apache-2.0
"""Roll-out: draft a command against the inventory, deliver it, and make one row for each node.

Reason to change: in which order and how widely a command is delivered.
May touch: nodes, through a road.
Promises: every node that the command targets has one row, whatever happened (P5).
"""
