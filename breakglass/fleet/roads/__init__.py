# SPDX-License-Identifier: Apache-2.0
"""The ways from the bastion to a node; any of them carries the same bytes."""
