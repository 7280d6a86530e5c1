#!/bin/sh
# Makes a repository of this example in FOLDER (by default a new temporary one) and runs it.
# Usage: run.sh [FOLDER]
set -eu

example=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$(mktemp -d)/sequential-pipeline}
mkdir -p "$folder"
cd "$folder"

cp -R "$example/.aynig" .
git init --quiet --initial-branch=main
git add .aynig
git commit --quiet --message "Add the workflow"

aynig submit collect --branch task/notes --message "Write the notes of release 1.1"

# With a longer `backoff` this would end before the next attempt is due, and say when it is; a daemon
# (`aynig daemon`) waits for it.
aynig run
git --no-pager log --graph --oneline --branches --decorate --decorate-refs=refs/heads/
echo "The repository is $folder"
