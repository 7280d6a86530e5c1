#!/bin/sh
# Makes a repository of this example in FOLDER (by default a new temporary one) and runs it.
# Usage: run.sh [FOLDER]
set -eu

example=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$(mktemp -d)/worker-and-judge}
mkdir -p "$folder"
cd "$folder"
folder=$(pwd)

# Where the judge keeps what nobody else may read. Without this line: ~/.local/state.
export XDG_STATE_HOME="$folder.judge"

git init --quiet --initial-branch=main
cp -R "$example/.aynig" "$example/check" .
git add .aynig check
git commit --quiet --message "Add the workflow, and a check that everybody can read"

# The judge's scenarios are on a branch that has nothing in common with the others.
git switch --quiet --orphan hidden
cp -R "$example/hidden" .
git add hidden
git commit --quiet --message "Add scenarios that the worker is not to see"
git switch --quiet main

# Before the work starts, the judge publishes a hash of them; the task names it.
hash=$(aynig judge commit hidden:hidden --name leap-years)
aynig submit build --branch task/leap-year --trailer "aynig:commitment: $hash" --message \
    "Write leap-year: a program that says yes or no of a year."

aynig run

# Afterwards the judge shows what the hash was made of, and everybody can check it.
aynig judge reveal leap-years
aynig audit task/leap-year

git --no-pager log --graph --oneline --decorate --decorate-refs=refs/heads/ \
    refs/aynig/judge/leap-years task/leap-year hidden
echo "The repository is $folder"
