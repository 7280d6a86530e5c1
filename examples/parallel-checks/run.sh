#!/bin/sh
# Makes a repository of this example in FOLDER (by default a new temporary one) and runs it.
# Usage: run.sh [FOLDER]
set -eu

example=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$(mktemp -d)/parallel-checks}
mkdir -p "$folder"
cd "$folder"

cp -R "$example/.aynig" "$example/pages" .
git init --quiet --initial-branch=main
git add .aynig pages
git commit --quiet --message "Add pages and the workflow"

# Three tasks that need nothing of each other run side by side; the fourth waits for them.
for check in links length titles; do
    git switch --quiet --create "check/$check" main
    git commit --quiet --allow-empty --message "Check $check" --message "aynig: check-$check"
done
git switch --quiet --create report main
git commit --quiet --allow-empty --file=- <<'MESSAGE'
Collect the findings

aynig: collect
aynig: depends-on: check/links
aynig: depends-on: check/length
aynig: depends-on: check/titles
MESSAGE
git switch --quiet main

aynig run --jobs 3
git --no-pager log --graph --oneline --all --decorate --decorate-refs=refs/heads/
echo "The repository is $folder"
