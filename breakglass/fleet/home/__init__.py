# SPDX-License-Identifier: Apache-2.0
"""The home on the bastion: trust, CA, identities, inventory, and the bundles made for nodes.

Reason to change: what a bastion keeps, or what a node is given.
May touch: files of the home.  It reaches no node.
Promises: files are replaced whole or not at all; private keys are for their owner alone.
"""
