#!/bin/sh
# Makes a repository of this example in FOLDER (by default a new temporary one) and runs it.
# Usage: run.sh [FOLDER]
set -eu

example=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$(mktemp -d)/hierarchical}
mkdir -p "$folder"
cd "$folder"

cp -R "$example/.aynig" .
git init --quiet --initial-branch=main
git add .aynig
git commit --quiet --message "Add the workflow"

aynig submit direct --branch handbook --message "A handbook about the mill"

# The exit status would be 1, because a run has failed. Here that is part of the story.
aynig run || true
git --no-pager log --graph --oneline --branches --decorate --decorate-refs=refs/heads/
echo "The repository is $folder"
