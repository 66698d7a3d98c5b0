# SPDX-License-Identifier: Apache-2.0
"""The library of the bastion: inventory, identities, roads to the nodes, roll-out, evidence."""
