#!/bin/sh
# Tries this example without GitHub, in FOLDER (by default a new temporary one): a server, a clone
# of a person who pushes a task, and the clone that a job gets.
# Usage: run.sh [FOLDER]
set -eu

example=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$(mktemp -d)/github-actions}
mkdir -p "$folder"
cd "$folder"
folder=$(pwd)

git init --quiet --bare --initial-branch=main server.git
git init --quiet --initial-branch=main person

cd person
git remote add origin ../server.git
cp -R "$example/.aynig" "$example/.github" "$example/glossary.txt" .
git add .
git commit --quiet --message "Add a glossary and the workflow"
git push --quiet origin main

# The task: a commit on a branch of its own, with a prompt as its body and a state as its trailer.
git switch --quiet --create task/words
git commit --quiet --allow-empty --file=- <<'MESSAGE'
Add two words

ref: a name for a commit
branch: a ref below refs/heads/

aynig: add
MESSAGE
git push --quiet origin task/words
cd ..

# What a job does: a clone of one commit, and one run.
git clone --quiet --depth=1 "file://$folder/server.git" job
cd job
aynig run --remote origin --branch 'task/*' --take-over
cd ..

git -C server.git --no-pager log --graph --oneline --all --decorate --decorate-refs=refs/heads/
echo "The server's repository is $folder/server.git"
