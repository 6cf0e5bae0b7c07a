//! State of a scrub or resilver: an array of 64-bit numbers in the pool directory (`dsl_scan_phys`).

use crate::error::{OndiskError, Result};
use crate::ids::{Bookmark, ObjectId, Txg};

/// Numbers in the array.
pub const SCAN_WORDS: usize = 24;
/// The bookmark's object set when none is left to be walked.
pub const OBJSET_DONE: u64 = u64::MAX;

/// What a scan is for (`pool_scan_func_t`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u64)]
pub enum ScanFunc {
    /// Never ran.
    #[default]
    None = 0,
    /// Reads every copy of every block.
    Scrub = 1,
    /// Brings devices up to date that missed writes.
    Resilver = 2,
    /// Reads only blocks in the error log.
    ErrorScrub = 3,
}

/// How far it is (`dsl_scan_state_t`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u64)]
pub enum ScanState {
    /// Never ran.
    #[default]
    None = 0,
    /// Under way, or paused.
    Scanning = 1,
    /// Ran to its end.
    Finished = 2,
    /// Was given up.
    Canceled = 3,
}

bitflags::bitflags! {
    /// Flags of a scan. Unknown bits are kept.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct ScanFlags: u64 {
        /// The dataset under the bookmark holds blocks that are newer than the walk: walk it once more.
        const VISIT_DS_AGAIN = 1;
        /// Paused by the user.
        const PAUSED = 2;
        const _ = !0;
    }
}

/// A scan as the pool stores it. Times are seconds since 1970, amounts bytes of allocated space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanPhys {
    /// 0: what it is for.
    pub func: ScanFunc,
    /// 1: how far it is.
    pub state: ScanState,
    /// 2: ZAP of the datasets still to be walked: object number in hex to the group after which blocks count.
    pub queue: ObjectId,
    /// 3: blocks born at or before this are left out.
    pub min_txg: Txg,
    /// 4: blocks born at or after this are left out.
    pub max_txg: Txg,
    /// 5: as `min_txg`, of the dataset under the bookmark.
    pub cur_min_txg: Txg,
    /// 6: as `max_txg`, of the dataset under the bookmark.
    pub cur_max_txg: Txg,
    /// 7: when it began.
    pub start_time: u64,
    /// 8: when it ended.
    pub end_time: u64,
    /// 9: what was allocated when it began.
    pub to_examine: u64,
    /// 10: walked.
    pub examined: u64,
    /// 11: walked and found not to need I/O.
    pub skipped: u64,
    /// 12: repaired or rebuilt.
    pub processed: u64,
    /// 13: blocks that could not be repaired.
    pub errors: u64,
    /// 14: dedup classes up to this are walked by table.
    pub ddt_class_max: u64,
    /// 15: where in the dedup tables: class, type, checksum, cursor.
    pub ddt_bookmark: [u64; 4],
    /// 19: the block to go on with; an object set of [`OBJSET_DONE`] for none.
    pub bookmark: Bookmark,
    /// 23: flags.
    pub flags: ScanFlags,
}

impl ScanPhys {
    /// Parses the array. A shorter one (older pools) is continued with zeroes.
    ///
    /// # Errors
    /// `Truncated` for an empty array, `BadType` for a purpose or state that does not exist.
    pub fn parse(words: &[u64]) -> Result<Self> {
        if words.is_empty() {
            return Err(OndiskError::Truncated);
        }
        let word = |at: usize| words.get(at).copied().unwrap_or(0);
        let func = match word(0) {
            0 => ScanFunc::None,
            1 => ScanFunc::Scrub,
            2 => ScanFunc::Resilver,
            3 => ScanFunc::ErrorScrub,
            _ => return Err(OndiskError::BadType),
        };
        let state = match word(1) {
            0 => ScanState::None,
            1 => ScanState::Scanning,
            2 => ScanState::Finished,
            3 => ScanState::Canceled,
            _ => return Err(OndiskError::BadType),
        };
        Ok(Self {
            func,
            state,
            queue: ObjectId(word(2)),
            min_txg: Txg(word(3)),
            max_txg: Txg(word(4)),
            cur_min_txg: Txg(word(5)),
            cur_max_txg: Txg(word(6)),
            start_time: word(7),
            end_time: word(8),
            to_examine: word(9),
            examined: word(10),
            skipped: word(11),
            processed: word(12),
            errors: word(13),
            ddt_class_max: word(14),
            ddt_bookmark: [word(15), word(16), word(17), word(18)],
            bookmark: Bookmark {
                objset: word(19),
                object: ObjectId(word(20)),
                level: word(21).cast_signed(),
                blkid: word(22),
            },
            flags: ScanFlags::from_bits_retain(word(23)),
        })
    }

    /// On-disk form.
    #[must_use]
    pub fn to_words(&self) -> [u64; SCAN_WORDS] {
        let [class, kind, checksum, cursor] = self.ddt_bookmark;
        [
            self.func as u64,
            self.state as u64,
            self.queue.0,
            self.min_txg.0,
            self.max_txg.0,
            self.cur_min_txg.0,
            self.cur_max_txg.0,
            self.start_time,
            self.end_time,
            self.to_examine,
            self.examined,
            self.skipped,
            self.processed,
            self.errors,
            self.ddt_class_max,
            class,
            kind,
            checksum,
            cursor,
            self.bookmark.objset,
            self.bookmark.object.0,
            self.bookmark.level.cast_unsigned(),
            self.bookmark.blkid,
            self.flags.bits(),
        ]
    }

    /// Under way and not paused.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == ScanState::Scanning && !self.is_paused()
    }

    /// Under way, but paused by the user.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.state == ScanState::Scanning && self.flags.contains(ScanFlags::PAUSED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(tail in any::<[u64; SCAN_WORDS]>(), func in 0..4u64, state in 0..4u64) {
            let mut words = tail;
            (words[0], words[1]) = (func, state);
            prop_assert_eq!(ScanPhys::parse(&words).unwrap().to_words(), words);
        }

        #[test]
        fn any_words_parse_or_fail(words in proptest::collection::vec(any::<u64>(), 0..40)) {
            let _ = ScanPhys::parse(&words);
        }
    }

    #[test]
    fn short_arrays_are_continued_with_zeroes() {
        let phys = ScanPhys::parse(&[1, 2, 7]).unwrap();
        assert_eq!((phys.func, phys.state, phys.queue), (ScanFunc::Scrub, ScanState::Finished, ObjectId(7)));
        assert_eq!(phys.flags, ScanFlags::empty());
        assert!(ScanPhys::parse(&[]).is_err());
    }
}
