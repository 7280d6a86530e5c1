#!/bin/sh
# Makes a repository of this example in FOLDER (by default a new temporary one) and runs it.
# Usage: run.sh [FOLDER]
set -eu

example=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$(mktemp -d)/review-loop}
mkdir -p "$folder"
cd "$folder"

cp -R "$example/.aynig" .
git init --quiet --initial-branch=main
git add .aynig
git commit --quiet --message "Add the workflow"

# The task: a commit on a branch of its own, with a prompt as its body and a state as its trailer.
git switch --quiet --create task/median
git commit --quiet --allow-empty --file=- <<'MESSAGE'
Write median

A function in median.py that gives the median of a list of numbers.

aynig: implement
MESSAGE
git switch --quiet main

aynig run
git --no-pager log --graph --oneline --all --decorate --decorate-refs=refs/heads/
echo "The repository is $folder"
