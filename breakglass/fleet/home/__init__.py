# SPDX-License-Identifier: Apache-2.0
"""The home on the bastion: trust, CA, identities, inventory, and the bundles made for nodes.

Reason to change: what a bastion stores, or what a node's bundle holds.
May touch: files of the home.  It contacts no node.
Promises: a file is replaced whole or not at all; only its owner can read a private key.
"""
