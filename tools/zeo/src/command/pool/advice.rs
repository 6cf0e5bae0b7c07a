//! What is wrong with a pool and what to do about it, as `zeo pool status` says it.
use mkfs::image::Image;
use zfs::scan::{ScanFunc, ScanState, ScanStatus};
use zfs::spa::VdevInfo;
use zfs::vdev::{VdevErrors, VdevState};

/// The two paragraphs below a pool's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// What is wrong.
    pub status: &'static str,
    /// What to do.
    pub action: &'static str,
}

/// What is worst about a pool; `None` when nothing is wrong with it.
pub fn of(
    image: &Image,
    tree: &VdevInfo,
    scan: &ScanStatus,
    nr_errors: usize,
    is_suspended: bool,
) -> Option<Advice> {
    let leaves = leaves(tree);
    let any = |state: VdevState| leaves.iter().any(|leaf| leaf.state == state);
    let has_missing_log =
        image.spa().vdevs().iter().any(|top| {
            top.class == zfs::vdev::AllocClass::Log && top.kind != "hole" && !top.state.is_usable()
        });
    let is_resilvering = scan.func == ScanFunc::Resilver && scan.state == ScanState::Scanning;
    let (status, action) = if is_suspended {
        (
            "Devices failed so that nothing can be written, and the pool waits.",
            "Make the devices work again, then run 'zeo pool clear IMAGE'.",
        )
    } else if nr_errors > 0 {
        (
            "Some data is damaged beyond repair; programs that read it get errors.",
            "Restore the damaged files ('zeo pool status -v IMAGE' names them), then run\n\t'zeo pool scrub IMAGE'.",
        )
    } else if has_missing_log {
        (
            "A log device is missing.",
            "Name its file too; or, if it is lost, run 'zeo pool remove -m IMAGE LOG'.",
        )
    } else if any(VdevState::Unavail) || any(VdevState::Removed) {
        (
            "One or more devices are missing. There are enough others for the pool to go on\n\twith less redundancy.",
            "Name the missing files in IMAGE, too, and run 'zeo pool online IMAGE DEVICE'; or\n\treplace what is lost with \
          'zeo pool replace IMAGE DEVICE NEW'.",
        )
    } else if any(VdevState::Faulted) {
        (
            "One or more devices failed too often and are not used any more.",
            "Replace them with 'zeo pool replace IMAGE DEVICE NEW', or, if they are whole, run\n\t'zeo pool clear IMAGE'.",
        )
    } else if is_resilvering {
        (
            "One or more devices are being brought up to date. The pool can be used meanwhile.",
            "Wait for the end, or run 'zeo pool resilver IMAGE' here.",
        )
    } else if any(VdevState::Offline) {
        (
            "One or more devices were taken offline. There are enough others for the pool to go\n\ton with less redundancy.",
            "Run 'zeo pool online IMAGE DEVICE', or 'zeo pool replace IMAGE DEVICE NEW'.",
        )
    } else if leaves.iter().any(|leaf| leaf.is_stale) {
        (
            "One or more devices missed what was written while they were away.",
            "Run 'zeo pool resilver IMAGE', or let the pool's machine do it when it starts.",
        )
    } else if leaves.iter().any(|leaf| leaf.errors != VdevErrors::default()) {
        (
            "One or more devices gave errors, which were corrected. Programs saw nothing of it.",
            "Look whether a device has to be replaced; 'zeo pool clear IMAGE' forgets the errors,\n\t'zeo pool replace IMAGE \
          DEVICE NEW' replaces it.",
        )
    } else {
        return None;
    };
    Some(Advice { status, action })
}

/// What stands behind a device's errors.
pub fn note(vdev: &VdevInfo, scan: &ScanStatus) -> Option<&'static str> {
    let is_resilvering = scan.func == ScanFunc::Resilver && scan.state == ScanState::Scanning;
    Some(match vdev.state {
        _ if !vdev.children.is_empty() => return None,
        _ if vdev.is_in_use => "currently in use",
        VdevState::Unavail => "cannot open",
        VdevState::Removed => "gone",
        VdevState::Faulted => "too many errors",
        _ if vdev.is_stale && is_resilvering => "(resilvering)",
        _ if vdev.is_stale => "out of date",
        _ => return None,
    })
}

/// The devices below a vdev.
pub fn leaves(vdev: &VdevInfo) -> Vec<&VdevInfo> {
    if vdev.children.is_empty() && vdev.kind != "hole" {
        return vec![vdev];
    }
    vdev.children.iter().flat_map(leaves).collect()
}
