# SPDX-License-Identifier: Apache-2.0
"""Generated from proto/ by tools/protos.py; do not edit."""
