# SPDX-License-Identifier: Apache-2.0
"""What runs on the bastion: inventory, identities, roads to the nodes, roll-out, evidence."""
