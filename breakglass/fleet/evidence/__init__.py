# SPDX-License-Identifier: Apache-2.0
"""Evidence on the bastion: receipts, checkpoints and whole logs of nodes, verified and stored.

Reason to change: what is verified about a node's log, or how the evidence is stored.
May touch: the evidence folders of the home.
Promises: evidence that does not verify never replaces stored evidence (P4).
"""
