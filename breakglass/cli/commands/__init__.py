# SPDX-License-Identifier: Apache-2.0
"""One small module per verb; each has a `command` and imports slow packages inside it."""
