# SPDX-License-Identifier: Apache-2.0
"""What runs on the node: log, runtime client, procedure, service, daemon."""
