# Functions for the test scripts. Sourced; needs $root (the project's folder).
# shellcheck shell=bash
zeo=${ZEO:-$root/zeo}
oracle=$root/tests/interop/oracle/oracle-vm

# json FIELD...: the value at that path of the JSON on standard input.
json() { python3 -c 'import functools, json, sys; print(functools.reduce(lambda v, k: v[int(k) if k.isdigit() else k], sys.argv[1:], json.load(sys.stdin)))' "$@"; }

# bares IMAGE PREFIX: the devices of an image (bare or partitioned, several files joined by commas) as sparse files that start
# with the vdev: PREFIX0.img, PREFIX1.img, .. Holes are not read: an image of 4 GiB holds a few megabytes.
bares() {
    "$zeo" image info --json "$1" | python3 -c '
import json, os, sys
for nr, p in enumerate(json.load(sys.stdin)["partitions"]):
    source = os.open(p["path"], os.O_RDONLY)
    target = os.open(f"{sys.argv[1]}{nr}.img", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.ftruncate(target, p["length"])
    at, end = p["offset"], p["offset"] + p["length"]
    while at < end:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError:  # ENXIO: only holes are left
            break
        stop = min(os.lseek(source, at, os.SEEK_HOLE), end)
        while at < stop:
            at += os.pwrite(target, os.pread(source, min(stop - at, 1 << 20), at), at - p["offset"])' "$2"
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
