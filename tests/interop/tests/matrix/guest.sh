# Sourced by the scripts of the matrix, in a Linux guest with OpenZFS. A pool's disks are set by `disks`.
set -e
. /lib/oracle.sh
P=/sys/module/zfs/parameters
say() { echo "MATRIX: $*"; }
die() { say "FAILED: $*"; [ -z "$pool" ] || zpool status -v "$pool"; exit 1; }

# disks POOL FIRST NR LOST: sets what follows for this pool. LOST: numbers of its lost disks, joined by commas.
disks() {
    pool=$1; share=/share/$1; all=; present=; lost=; spare=
    local nr
    for nr in $(seq 0 $(($3 - 1))); do
        all="$all /dev/oracle/d$(($2 + nr))"
        case ,$4, in *,$nr,*) lost="$lost /dev/oracle/d$(($2 + nr))";; *) present="$present /dev/oracle/d$(($2 + nr))";; esac
    done
}
import() { local d a=; for d in "$@"; do a="$a -d $d"; done; zpool import -f $a -R "/a" "$pool" || die "import of $pool on $*"; }

list_sha256() { (cd "$1" && find . -xdev -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum | LC_ALL=C sort); }
list_meta() {
    (cd "$1" && find . -mindepth 1 -xdev \( -type d -printf '%y %m %U %G - - %P\n' \) \
        -o \( -type l -printf '%y %m %U %G %n %s %P -> %l\n' \) -o -printf '%y %m %U %G %n %s %P\n' | LC_ALL=C sort)
}
at() { case $1 in *@*) echo "/a/$pool/${1%@*}/.zfs/snapshot/${1#*@}";; *) echo "/a/$pool/$1";; esac; }
# same PLACE LISTED: what is there is what the list says.
same() {
    local kind
    for kind in sha256 meta; do
        "list_$kind" "$1" > /tmp/have
        LC_ALL=C sort "$share/$(tr @ . <<<"$2").$kind" > /tmp/want
        diff /tmp/want /tmp/have > /tmp/diff || { head -n 20 /tmp/diff; die "$1 is not $2 as listed ($kind)"; }
    done
}
check() { local d; for d in fs clone fs@before; do same "$(at $d)" $d; done; }
figures() {
    zfs get -Hp -o name,property,value used,referenced,written,logicalreferenced "$pool/fs" "$pool/clone" "$pool/fs@before"
    zfs get -Hp -o name,property,value usedbysnapshots,usedbydataset,logicalused "$pool/fs" "$pool/clone"
}
# What both say of space; before anything is written here.
same_figures() {
    figures | LC_ALL=C sort > /tmp/have; LC_ALL=C sort "$share/figures" > /tmp/want
    diff /tmp/want /tmp/have || die "figures"
}
take() {
    local d kind
    for d in fs clone fs@before; do
        for kind in sha256 meta; do "list_$kind" "$(at $d)" > "$share/$(tr @ . <<<"$d").$kind"; done
    done
    zpool sync "$pool"; figures > "$share/figures"
}
change() {
    local d
    for d in fs clone; do
        head -c 3000000 /dev/urandom > "/a/$pool/$d/theirs-$1"
        dd if=/dev/urandom of="/a/$pool/$d/noise" bs=100000 seek=7 count=3 conv=notrunc status=none
        head -c 700 /dev/urandom > "/a/$pool/$d/dir/u$1"
    done
    zpool sync "$pool"
}
# Every disk is up to date and without errors.
resilvered() {
    zpool wait -t resilver,replace "$pool"
    zpool status "$pool" > /tmp/status
    ! grep -qE 'resilver in progress|DTL' /tmp/status || die "not resilvered"
}
scrubbed() {
    zpool scrub -w "$pool"; zpool status "$pool" > /tmp/status
    grep -q 'scrub repaired 0B .* with 0 errors' /tmp/status && grep -q 'errors: No known data errors' /tmp/status || die "scrub"
}
whole() { scrubbed; grep -q 'state: ONLINE' /tmp/status && ! grep -qE 'OFFLINE|DEGRADED|FAULTED|UNAVAIL|REMOVED' /tmp/status || die "not whole"; }

# Goes on for a millisecond of each group, and there are many groups: someone is always waiting for one.
slow() { local p; for p in "zfs_scan_legacy 1" "zfs_resilver_min_time_ms 1" "zfs_scan_vdev_limit 65536" "zfs_scan_suspend_progress $1"; do echo "${p#* }" > "$P/${p% *}"; done; }
fast() { local p; for p in "zfs_scan_legacy 0" "zfs_resilver_min_time_ms 3000" "zfs_scan_vdev_limit 16777216" "zfs_scan_suspend_progress 0"; do echo "${p#* }" > "$P/${p% *}"; done; }
half() {
    slow 1
    local d; for d in $lost; do zpool online "$pool" "$d"; done
    touch /tmp/hurry; (while [ -e /tmp/hurry ]; do zpool sync "$pool"; done) &
    echo 0 > $P/zfs_scan_suspend_progress
    for _ in $(seq 2000); do
        zpool status "$pool" > /tmp/status
        ! grep -q 'scan: resilvered' /tmp/status || break
        ! grep -qE '[1-9][0-9.]*[KM]? resilvered, ' /tmp/status || break
    done
    echo 1 > $P/zfs_scan_suspend_progress; rm /tmp/hurry; wait
    zpool status "$pool" > /tmp/status; grep -A2 'scan:' /tmp/status
    grep -q 'resilver in progress' /tmp/status || die "the resilver was too fast"
}
lose() {
    local d
    for d in $lost; do zpool offline $1 "$pool" "$d"; done
    spare=$(zpool status -P "$pool" | awk '/spares/ {s = 1; next} s && /AVAIL/ {print $1; exit}')
    if [ -n "$spare" ]; then zpool replace "$pool" $lost "$spare"; zpool wait -t resilver,replace "$pool"; fi
}
log_changes() {
    local d=/a/$pool/fs
    echo up > $d/warm; sync $d/warm; zpool sync "$pool"; zpool sync "$pool"
    # From here on nothing but the intent log reaches the disks.
    zpool freeze "$pool"
    mkdir $d/logged2; ln -s small $d/logged2/symlink; mkfifo $d/logged2/fifo
    head -c 3000 /dev/urandom > $d/logged2/small
    head -c 900000 /dev/urandom > $d/logged2/large; sync $d/logged2/large
    dd if=/dev/urandom of=$d/logged2/large bs=50000 seek=3 count=2 conv=notrunc,fsync status=none
    dd if=/dev/urandom of=$d/noise bs=40000 seek=90 count=1 conv=notrunc,fsync status=none
    truncate -s 700000 $d/logged2/large; ln $d/logged2/large $d/logged2/hard; mv $d/theirs-1 $d/logged2/moved; rm $d/dir/s7
    chmod 604 $d/dir/s8; chown 5:6 $d/dir/s8; setfattr -n user.logged -v value $d/dir/s8
    find $d -xdev -type f -newer $d/warm -print0 | xargs -0 sync; sync $d/logged2/small $d/logged2/large $d/dir/s8
}

# What each state takes: open what was left, make it whole, leave it in the same state.
take_whole() {
    import $all; same_figures; check; whole
    zfs receive "$pool/copy" < "$share/ours.zfs" || die "receive"
    same "/a/$pool/copy/.zfs/snapshot/before" fs@before; zfs destroy -r "$pool/copy"
    change 1; zfs snapshot "$pool/fs@theirs"; zfs clone "$pool/fs@theirs" "$pool/theirs"; rm "/a/$pool/theirs/noise"; zpool sync "$pool"
    zfs send -R -Lec "$pool/fs@theirs" > "$share/theirs.zfs"
    take; whole; zpool export "$pool"
}
# The lost disks stay away while the pool is looked at and written, then they come back.
take_degraded() {
    import $present; same_figures; check; change 1; take; zpool export "$pool"
    import $all; resilvered; check; whole_but_spare
    change 2; lose; change 3; take; zpool export "$pool"
}
take_half() {
    fast; import $all; same_figures; resilvered; check; whole_but_spare
    lose; change 1; change 2; half; take; zpool export "$pool"
}
take_logged() { import $all; check; whole; change 1; log_changes; take; }
take_logged_degraded() { import $all; check; resilvered; whole_but_spare; lose -t; change 1; log_changes; take; }
# A spare that stood in goes back by hand: there is no daemon here that would do it.
whole_but_spare() {
    spare=$(zpool status -P "$pool" | awk '/spares/ {s = 1; next} s && /INUSE/ {print $1; exit}')
    [ -z "$spare" ] || zpool detach "$pool" "$spare"
    whole
}
finish() { import $all; same_figures; check; whole; zpool export "$pool"; }
