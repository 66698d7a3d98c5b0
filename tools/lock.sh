#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Make requirements/*.lock from pyproject.toml: versions and hashes, no addresses.  Needs `uv` on PATH
# or in .venv.  A lock that stands is kept as far as pyproject.toml allows; remove it to upgrade.
set -eu
PATH=$PATH:.venv/bin

lock() {  # NAME PURPOSE SOURCE-AND-OPTIONS...
    file=requirements/$1.lock
    purpose=$2
    shift 2
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-emit-find-links --no-annotate --no-header "$@" -o "$file"
    {
        echo "# SPDX-License-Identifier: Apache-2.0"
        echo "# $purpose, by version and hash; made by \`make lock\` from pyproject.toml"
        cat "$file"
    } >"$file.new"
    mv "$file.new" "$file"
}

lock agent "what a node installs" pyproject.toml
lock cli "what a bastion installs" pyproject.toml --extra cli -c requirements/agent.lock
lock build "what builds the wheel" --group pyproject.toml:build
lock dev "what building and testing needs" pyproject.toml --extra cli --group dev \
    -c requirements/cli.lock -c requirements/build.lock
