# SPDX-License-Identifier: Apache-2.0
"""Programs for developers of breakglass; the installed package does not import them."""
