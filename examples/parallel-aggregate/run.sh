#!/bin/sh
# Makes a repository of this example in FOLDER (by default a new temporary one) and runs it.
# Usage: run.sh [FOLDER]
set -eu

example=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$(mktemp -d)/parallel-aggregate}
mkdir -p "$folder"
cd "$folder"

cp -R "$example/.aynig" .
git init --quiet --initial-branch=main
git add .aynig
git commit --quiet --message "Add the workflow"

# The first: one of the children fails, and the others are enough.
aynig submit split --branch world --message "french german spanish klingon"
# The second: two of its children change the same line.
aynig submit split --branch north --message "danish norwegian"

# The exit status would be 1, because a run has failed. Here that is part of the story.
aynig run --jobs 4 || true
git --no-pager log --graph --oneline --branches --decorate --decorate-refs=refs/heads/
echo "The repository is $folder"
