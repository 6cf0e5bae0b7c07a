# Functions for the test scripts. Sourced; needs $root (the project's folder).
# shellcheck shell=bash
zeo=${ZEO:-$root/zeo}
oracle=$root/tests/interop/oracle/oracle-vm

# json FIELD...: the value at that path of the JSON on standard input.
json() { python3 -c 'import functools, json, sys; print(functools.reduce(lambda v, k: v[int(k) if k.isdigit() else k], sys.argv[1:], json.load(sys.stdin)))' "$@"; }

# bares IMAGE PREFIX: the devices of an image (bare or partitioned, several files joined by commas) as sparse files that start
# with the vdev: PREFIX0.img, PREFIX1.img, ..
bares() {
    local path offset length nr=0
    while IFS=$'\t' read -r offset length path; do
        dd if="$path" of="$2$nr.img" bs=1M iflag=skip_bytes,count_bytes skip="$offset" count="$length" conv=sparse status=none
        truncate -s "$length" "$2$nr.img"
        nr=$((nr + 1))
    done < <("$zeo" image info --json "$1" | python3 -c '
import json, sys
for p in json.load(sys.stdin)["partitions"]: print(p["offset"], p["length"], p["path"], sep="\t")')
}

# bare IMAGE TO: the one device of an image.
bare() { bares "$1" "$2." && mv "$2.0.img" "$2"; }

# faultless IMAGE: our verifier and OpenZFS's zdb find nothing wrong. IMAGE may be several files joined by commas.
faultless() {
    local dir out pool
    dir=$(mktemp -d "${TMPDIR:-/tmp}/zeolite-judge.XXXXXX")
    "$zeo" image verify "$1" > "$dir/verify" || { cat "$dir/verify"; rm -rf "$dir"; return 1; }
    pool=$("$zeo" image info --json "$1" | json pool name)
    mkdir "$dir/pool"
    bares "$1" "$dir/pool/d"
    out=$("$oracle" zdb -e -p "$dir/pool" -bcc "$pool" 2>&1) && grep -q 'No leaks' <<<"$out" &&
        out=$("$oracle" zdb -e -p "$dir/pool" -d "$pool" 2>&1) && ! grep -qE 'mismatch|leaked' <<<"$out" ||
        { tail -n 30 <<<"$out"; rm -rf "$dir"; return 1; }
    rm -rf "$dir"
}
