#!/bin/sh
# Makes a repository of this example in FOLDER (by default a new temporary one) and runs it.
# Usage: run.sh [FOLDER]
set -eu

example=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$(mktemp -d)/two-agents-talking}
mkdir -p "$folder"
cd "$folder"
folder=$(pwd)

show() { git --no-pager log --graph --oneline --decorate --decorate-refs=refs/heads/ "main..$1"; }

git init --quiet --initial-branch=main
cp -R "$example/.aynig" "$example/talk.txt" .
git add .aynig talk.txt
git commit --quiet --message "Add the workflow"

echo "--- A bicycle: each peer has a runner of its own, and takes what is assigned to it."
aynig submit talk --branch task/bicycle --to seller --message "Agree on a price for the bicycle."
for turn in 1 2 3 4; do
    aynig run --quiet --agent seller
    aynig run --quiet --agent buyer
done
show task/bicycle

echo "--- A piano: neither of them moves, and they would talk for ever."
aynig submit talk --branch task/piano --to seller --message "Agree on a price for the piano."
aynig run --quiet || echo "aynig run ended with $?"
show task/piano

echo "--- A door: after you. No, after you."
aynig submit talk --branch task/door --to seller --message "Agree on who goes through the door first."
aynig run --quiet
show task/door
aynig status
echo "The repository is $folder"
