#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Make requirements/*.lock from pyproject.toml: versions and hashes, no addresses.  Needs `uv` on PATH
# or in .venv.  A lock that stands is kept as far as pyproject.toml allows; remove it to upgrade.
set -eu
PATH=$PATH:.venv/bin

lock() {  # NAME PURPOSE OPTIONS...
    file=requirements/$1.lock
    purpose=$2
    shift 2
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-emit-find-links --no-annotate --no-header pyproject.toml "$@" -o "$file"
    {
        echo "# SPDX-License-Identifier: Apache-2.0"
        echo "# $purpose, by version and hash; made by \`make lock\` from pyproject.toml"
        cat "$file"
    } >"$file.new"
    mv "$file.new" "$file"
}

lock agent "what a node installs"
lock cli "what a bastion installs" --extra cli -c requirements/agent.lock
lock dev "what building and testing needs" --extra cli --group dev -c requirements/cli.lock
