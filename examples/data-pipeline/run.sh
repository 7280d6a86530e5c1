#!/bin/sh
# Makes a repository of this example in FOLDER (by default a new temporary one) and runs it.
# Usage: run.sh [FOLDER]
set -eu

example=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$(mktemp -d)/data-pipeline}
mkdir -p "$folder"
cd "$folder"
folder=$(pwd)

# What the tasks have effects on outside of git. Scripts get the environment of `aynig run`.
export OUTBOX="$folder.outbox"
mkdir "$OUTBOX"

git init --quiet --initial-branch=main
cp -R "$example/.aynig" "$example/orders.csv" .
git add .aynig orders.csv
git commit --quiet --message "Add orders and the workflow"

# Three tasks, all or none. The order in which they run follows from what each waits for.
aynig submit --file "$example/plan.yaml"
aynig run --jobs 3
git --no-pager log --graph --oneline --decorate --decorate-refs=refs/heads/ \
    orders/deliver orders/transform orders/validate

# Once more, when the accountant's mailbox is full: half of it arrives, and is taken back.
touch "$OUTBOX/full"
aynig submit deliver --branch orders/again --after orders/validate --after orders/transform \
    --message "Send the list once more."
aynig run --quiet || echo "aynig run ended with $?"
git --no-pager log --graph --oneline --decorate --decorate-refs=refs/heads/ main..orders/again
echo "The repository is $folder"
