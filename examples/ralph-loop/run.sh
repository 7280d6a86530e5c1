#!/bin/sh
# Makes a repository of this example in FOLDER (by default a new temporary one) and runs it.
# Usage: run.sh [FOLDER]
set -eu

example=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$(mktemp -d)/ralph-loop}
mkdir -p "$folder"
cd "$folder"

cp -R "$example/.aynig" "$example/plan.md" .
git init --quiet --initial-branch=main
git add .aynig plan.md
git commit --quiet --message "Add a plan and the workflow"

# The prompt is the same for each iteration.
aynig submit paint --branch task/colours --message "Do the next item of plan.md."
aynig submit polish --branch task/varnish --message "Polish it until it is perfect."

# The exit status would be 1, because iterations have failed. Here that is part of the story.
aynig run || true
aynig status
git --no-pager log --graph --oneline --branches --decorate --decorate-refs=refs/heads/
echo "The repository is $folder"
