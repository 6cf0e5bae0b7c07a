//! Reads and writes the first disk: every block once, checked, and a few in parallel.
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::BlockDevice;
use rt::JoinHandle;

const LEN: usize = 64 << 10;
const BLOCKS: usize = 64;

fn pattern(n: usize) -> impl Iterator<Item = u8> {
    (0..LEN).map(move |at| (at / 512 + n * 7) as u8)
}

/// Writes, flushes, reads back from several threads; true if everything is right.
pub fn run(disks: &[Arc<dyn BlockDevice>]) -> bool {
    let Some(disk) = disks.first() else {
        log::error!("no disk");
        return false;
    };
    let geometry = disk.geometry();
    if geometry.capacity < (LEN * BLOCKS) as u64 {
        return false;
    }
    let threads: Vec<JoinHandle> = (0..4)
        .map(|part| {
            let disk = disk.clone();
            rt::spawn("writer", move || {
                for n in (part..BLOCKS).step_by(4) {
                    let bytes: Vec<u8> = pattern(n).collect();
                    if let Err(e) = disk.write((n * LEN) as u64, abd::Abd::copy_from(&bytes)) {
                        log::error!("write {n}: {e}");
                        return;
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(JoinHandle::join);
    if let Err(e) = disk.flush() {
        log::error!("flush: {e}");
        return false;
    }
    let is_right = |n: usize| {
        disk.read((n * LEN) as u64, LEN).is_ok_and(|data| {
            let expected: Vec<u8> = pattern(n).collect();
            data.freeze().to_vec() == expected
        })
    };
    (0..BLOCKS).all(is_right)
}
