# SPDX-License-Identifier: Apache-2.0
"""Roll-out: from a draft that is counted against the inventory to one row for each node.

Reason to change: in which order and how widely a command is delivered.
May touch: nodes, through a road.
Promises: there is one row for every node that the command is for, whatever happened (P5).
"""
