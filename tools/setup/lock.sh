#!/bin/sh
# Write the lock files anew (`make lock`): the newest versions that pyproject.toml allows, for every Python and platform,
# with the SHA-256 of each file. Needs uv and the network. Run make test and make lint before committing the result.
set -eu
cd "$(dirname "$0")/../.."
lock=tools/setup/lock
compile() {
    uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
        --no-header --no-annotate --no-emit-index-url "$@"
}
compile --group setup pyproject.toml --output-file $lock/base.txt
for group in test lint; do # they share an environment with base, so they keep to its versions
    compile --constraints $lock/base.txt --group $group --output-file $lock/$group.txt
done
for group in typings typings-s3 typings-c3 typings-c6; do # a folder each: all bring the same file names
    compile --group $group --output-file $lock/$group.txt
done
