#!/bin/sh
# Makes a server, runners and a person's clone in FOLDER (by default a new temporary one).
# Usage: run.sh [FOLDER]
set -eu

example=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$(mktemp -d)/event-driven-docs}
mkdir -p "$folder"
cd "$folder"

git init --quiet --bare --initial-branch=main server.git
git init --quiet --initial-branch=main person
cd person
git remote add origin ../server.git
git config aynig.remote origin
cp -R "$example/.aynig" "$example/guide.md" .
git add .
git commit --quiet --message "Add a guide and the workflow"
git push --quiet origin main
cd ..

# Each runner is a clone and a daemon in it; they could be on four machines. They end with this.
pids=
trap 'kill $pids && wait || true' EXIT
runner() {
    name=$1
    shift
    git clone --quiet server.git "$name"
    (cd "$name" && exec aynig daemon --remote origin "$@" >"../$name.log" 2>&1) &
    pids="$pids $!"
}
runner desk --role desk
runner library --role library --jobs 2
runner swift --agent swift
runner deep --agent deep

# The events: two issues are pushed.
cd person
aynig submit opened --branch issue/1 --message "Typo: teh on the first page"
aynig submit opened --branch issue/2 --message "Does it work without a network?"

ended() {
    git -C ../server.git log -1 --format=%s "$1" | grep -q -e "-> done" -e "-> failed"
}
waited=0
until ended issue/1 && ended issue/2; do
    [ "$waited" -lt 600 ] || break
    waited=$((waited + 1))
    sleep 0.2
done
aynig status
git -C ../server.git --no-pager log --graph --oneline --branches --decorate --decorate-refs=refs/heads/
echo "The server's repository is $folder/server.git"
