#!/bin/sh
# Makes a repository of this example in FOLDER (by default a new temporary one) and runs it.
# Usage: run.sh [FOLDER]
set -eu

example=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$(mktemp -d)/human-approval}
mkdir -p "$folder"
cd "$folder"
folder=$(pwd)

# The people are played: `as Grace aynig approve ...` is what Grace would type. Who somebody is, git
# is told by these variables, as it is by `git config user.name` elsewhere.
as() {
    who=$1
    address=$(echo "$who" | tr 'A-Z' 'a-z')@example.org
    [ "$who" != Wren ] || address=wren@agents.example
    shift
    env GIT_AUTHOR_NAME="$who" GIT_AUTHOR_EMAIL="$address" \
        GIT_COMMITTER_NAME="$who" GIT_COMMITTER_EMAIL="$address" "$@"
}
# What has to be refused: its words are shown, and it is an error if it is not refused.
refused() {
    if "$@" 2>&1; then
        echo "This should have been refused: $*" >&2
        exit 1
    fi
}
show() { git --no-pager log --graph --oneline --decorate --decorate-refs=refs/heads/ "main..$1"; }

git init --quiet --initial-branch=main
cp -R "$example/.aynig" "$example/page.txt" .
git add .aynig page.txt
as Ada git commit --quiet --message "Add a page and the workflow"

echo "--- Low risk: nobody is asked."
as Ada aynig submit tidy --branch task/blanks --message "Tidy the page."
as Ada aynig run --quiet
show task/blanks

echo "--- Medium and high: a question, a rejection, and two approvals."
as Ada aynig submit write --branch task/hours --message "Say when we are open on Saturdays."
as Ada aynig run --quiet
as Linus aynig answer task/hours --message "9 to 12"
as Ada aynig run --quiet
as Grace aynig reject task/hours --message "Too many words"
as Ada aynig run --quiet
# Nobody approves their own work: not the agent that did it...
refused as Wren aynig approve task/hours --message "Best page ever"
as Grace aynig approve task/hours --message "Short enough"
as Ada aynig run --quiet
# ...and only those whom the workflow names let a page be published. A plain commit is judged too.
git switch --quiet task/hours
as Mallory git commit --quiet --allow-empty --message "Go" --message "aynig: approved"
git switch --quiet main
as Ada aynig run --quiet
as Linus aynig approve task/hours --message "Go"
as Ada aynig run --quiet
show task/hours

echo "--- An agent that says yes to itself."
as Ada aynig submit write --branch task/beer --message "A line that nobody will look at."
as Ada aynig run --quiet || echo "aynig run ended with $?"
show task/beer

echo "--- With signatures: a name is not enough any more."
# Linus's key is out of the scripts' reach in earnest: on a token, or in an agent that asks.
mkdir "$folder.keys"
ssh-keygen -q -t ed25519 -N "" -C linus -f "$folder.keys/linus"
printf 'linus@example.org namespaces="git" %s\n' "$(cat "$folder.keys/linus.pub")" \
    >.aynig/allowed_signers
printf 'signed: required\n' >>.aynig/config.yaml
git add .aynig
as Ada git commit --quiet --message "Approvals have to be signed"
as Ada aynig submit publish --branch task/page --message "The page as it is."
as Ada aynig run --quiet
git switch --quiet task/page
as Linus git commit --quiet --allow-empty --message "I am Linus" --message "aynig: approved"
git switch --quiet main
as Ada aynig run --quiet
# As in the ~/.gitconfig of Linus.
git config --file "$folder.keys/gitconfig" gpg.format ssh
git config --file "$folder.keys/gitconfig" user.signingKey "$folder.keys/linus"
as Linus env GIT_CONFIG_GLOBAL="$folder.keys/gitconfig" aynig approve task/page --message "It is I"
as Ada aynig run --quiet
show task/page
echo "The repository is $folder"
