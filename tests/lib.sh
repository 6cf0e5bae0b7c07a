# Functions for the test scripts. Sourced; needs $root (the project's folder).
# shellcheck shell=bash
zeo=${ZEO:-$root/zeo}
oracle=$root/tests/interop/oracle/oracle-vm

# json FIELD...: the value at that path of the JSON on standard input.
json() { python3 -c 'import functools, json, sys; print(functools.reduce(lambda v, k: v[int(k) if k.isdigit() else k], sys.argv[1:], json.load(sys.stdin)))' "$@"; }

# bare IMAGE TO: the pool of an image (bare or partitioned) as a sparse file that starts with the vdev.
bare() {
    local offset length
    read -r offset length < <("$zeo" image info --json "$1" | python3 -c '
import json, sys
for p in json.load(sys.stdin)["partitions"]: print(p["offset"], p["length"])')
    dd if="$1" of="$2" bs=1M iflag=skip_bytes,count_bytes skip="$offset" count="$length" conv=sparse status=none
    truncate -s "$length" "$2"
}

# faultless IMAGE: our verifier and OpenZFS's zdb find nothing wrong.
faultless() {
    local dir out pool
    dir=$(mktemp -d "${TMPDIR:-/tmp}/zeolite-judge.XXXXXX")
    "$zeo" image verify "$1" > "$dir/verify" || { cat "$dir/verify"; rm -rf "$dir"; return 1; }
    pool=$("$zeo" image info --json "$1" | json pool name)
    mkdir "$dir/pool"
    bare "$1" "$dir/pool/d0.img"
    out=$("$oracle" zdb -e -p "$dir/pool" -bcc "$pool" 2>&1) && grep -q 'No leaks' <<<"$out" &&
        out=$("$oracle" zdb -e -p "$dir/pool" -d "$pool" 2>&1) && ! grep -qE 'mismatch|leaked' <<<"$out" ||
        { tail -n 30 <<<"$out"; rm -rf "$dir"; return 1; }
    rm -rf "$dir"
}
