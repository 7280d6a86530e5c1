# What the checks share. Scripts find what lies beside them below $AYNIG_HOME.

# Outside of the worktree: what is left in there lands on the branch.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
findings=$work/findings
found=$work/found
: >"$findings"

# report NAME: the findings as a file of the branch, and their number as a field of the answer.
report() {
    mkdir -p reports
    cp "$findings" "reports/$1.txt"
    count=$(grep -c '' "$findings" || true)
    {
        echo "findings: $count"
        echo
        cat "$findings"
        echo
        echo "aynig: done"
        echo "aynig: meta-findings: $count"
    } >"$AYNIG_RESPONSE"
}
