//! A file's bytes as the model keeps them: sparse pages, and a sum that tells two contents apart at once.
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// Unit of the sum.
pub const PAGE: usize = 4096;
const PAGE_U64: u64 = PAGE as u64;

type Page = Arc<[u8; PAGE]>;

static ZEROES: LazyLock<Page> = LazyLock::new(|| Arc::new([0; PAGE]));

/// Bytes of a file.
#[derive(Clone, Debug, Default)]
pub struct Content {
    size: u64,
    /// Pages that are not all zero, with their part of the sum.
    pages: BTreeMap<u64, (Page, u64)>,
    sum: u64,
}

impl Content {
    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Differs between contents, size included.
    pub fn sum(&self) -> u64 {
        mix(self.sum ^ mix(self.size))
    }

    /// Bytes the model holds in memory for it.
    pub fn held(&self) -> u64 {
        self.pages.len() as u64 * PAGE_U64
    }

    /// As pwrite(2).
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let start = (at % PAGE_U64) as usize;
            let n = (bytes.len() - done).min(PAGE - start);
            self.change(at / PAGE_U64, |page| page[start..start + n].copy_from_slice(&bytes[done..done + n]));
            done += n;
        }
        self.size = self.size.max(offset + bytes.len() as u64);
    }

    /// Makes a range zero; the size stays.
    pub fn clear(&mut self, start: u64, end: u64) {
        let end = end.min(self.size);
        let touched: Vec<u64> = match start < end {
            true => self.pages.range(start / PAGE_U64..end.div_ceil(PAGE_U64)).map(|(at, _)| *at).collect(),
            false => return,
        };
        for index in touched {
            let first = index * PAGE_U64;
            let from = start.saturating_sub(first).min(PAGE_U64) as usize;
            let to = end.saturating_sub(first).min(PAGE_U64) as usize;
            self.change(index, |page| page[from..to].fill(0));
        }
    }

    /// As ftruncate(2).
    pub fn resize(&mut self, size: u64) {
        let old = self.size;
        if size < old {
            self.clear(size, old);
        }
        self.size = size;
    }

    /// As pread(2).
    pub fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let len = self.size.saturating_sub(offset).min(len as u64) as usize;
        let mut out = vec![0; len];
        let (first, end) = (offset / PAGE_U64, (offset + len as u64).div_ceil(PAGE_U64));
        for (index, (page, _)) in self.pages.range(first..end.max(first)) {
            let at = index * PAGE_U64;
            let from = offset.saturating_sub(at).min(PAGE_U64) as usize;
            let to = (offset + len as u64 - at).min(PAGE_U64) as usize;
            let into = (at + from as u64 - offset) as usize;
            out[into..into + (to - from)].copy_from_slice(&page[from..to]);
        }
        out
    }

    /// Whether anything but zeroes lies in a range.
    pub fn has_data(&self, start: u64, end: u64) -> bool {
        let start = start.min(end);
        self.pages.range(start / PAGE_U64..end.div_ceil(PAGE_U64)).any(|(index, (page, _))| {
            let at = index * PAGE_U64;
            let from = start.saturating_sub(at).min(PAGE_U64) as usize;
            let to = end.saturating_sub(at).min(PAGE_U64) as usize;
            page[from..to].iter().any(|b| *b != 0)
        })
    }

    /// Whether each byte is that of one of the others, and the size lies between theirs.
    pub fn is_mixture_of(&self, others: &[&Self]) -> bool {
        let sizes = others.iter().map(|other| other.size);
        let (Some(min), Some(max)) = (sizes.clone().min(), sizes.max()) else { return false };
        let mut touched: Vec<u64> =
            others.iter().chain([&self]).flat_map(|content| content.pages.keys().copied()).collect();
        touched.sort_unstable();
        touched.dedup();
        let is_mixed = |index: &u64| {
            let page = |c: &Self| c.pages.get(index).map_or(&*ZEROES, |(page, _)| page).clone();
            let (own, theirs) = (page(self), others.iter().map(|other| page(other)).collect::<Vec<_>>());
            (0..PAGE).all(|at| theirs.iter().any(|page| page[at] == own[at]))
        };
        (min..=max).contains(&self.size) && touched.iter().all(is_mixed)
    }

    fn change(&mut self, index: u64, change: impl FnOnce(&mut [u8; PAGE])) {
        let (mut page, old) = self.pages.remove(&index).unwrap_or_else(|| (Arc::new([0; PAGE]), 0));
        change(Arc::make_mut(&mut page));
        let new = page_sum(index, &page);
        self.sum = self.sum.wrapping_sub(old).wrapping_add(new);
        if new != 0 {
            self.pages.insert(index, (page, new));
        }
    }
}

/// A page's part of a sum: zero for a page of zeroes.
fn page_sum(index: u64, page: &[u8; PAGE]) -> u64 {
    let mut lanes = [1_u64, 2, 3, 4];
    let mut any = 0;
    for chunk in page.chunks_exact(32) {
        for (lane, word) in lanes.iter_mut().zip(chunk.chunks_exact(8)) {
            let word = word.iter().rev().fold(0_u64, |n, b| n << 8 | u64::from(*b));
            any |= word;
            *lane = (*lane ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25).rotate_left(29);
        }
    }
    if any == 0 {
        return 0;
    }
    mix(lanes.iter().fold(index, |sum, lane| mix(sum ^ lane))) | 1
}

/// Spreads a number over all bits.
pub fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let n = (n ^ (n >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    n ^ (n >> 32)
}

/// A number for some bytes.
pub fn hash(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |n, b| (n ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bytes_have_equal_sums_however_they_came_about() {
        let mut a = Content::default();
        a.write(100, &[7; 9000]);
        a.clear(5000, 6000);
        a.resize(7000);
        a.resize(20_000);
        let mut b = Content::default();
        b.resize(20_000);
        b.write(6000, &[7; 1000]);
        b.write(100, &[7; 4900]);
        assert_eq!((a.sum(), a.read(0, 20_000)), (b.sum(), b.read(0, 20_000)));
        b.write(19_999, &[1]);
        assert_ne!(a.sum(), b.sum());
        b.write(19_999, &[0]);
        assert_eq!((a.sum(), a.held()), (b.sum(), b.held()));
    }

    #[test]
    fn a_mixture_has_no_byte_of_its_own() {
        let write = |offset, byte| {
            let mut content = Content::default();
            content.write(0, &[1; 10_000]);
            content.write(offset, &[byte; 3000]);
            content
        };
        let (a, b) = (write(0, 2), write(5000, 3));
        let mut mixed = write(5000, 3);
        mixed.write(0, &[2; 1500]);
        assert!(mixed.is_mixture_of(&[&a, &b]) && !mixed.is_mixture_of(&[&a]));
        mixed.write(9_999, &[9]);
        assert!(!mixed.is_mixture_of(&[&a, &b]));
        mixed.resize(9_999);
        assert!(!mixed.is_mixture_of(&[&a, &b]));
    }

    #[test]
    fn a_page_elsewhere_is_another_content() {
        let (mut a, mut b) = (Content::default(), Content::default());
        a.write(0, &[1; PAGE]);
        a.resize(3 * PAGE_U64);
        b.resize(3 * PAGE_U64);
        b.write(PAGE_U64, &[1; PAGE]);
        assert_ne!(a.sum(), b.sum());
        assert!(a.has_data(10, 11) && !a.has_data(PAGE_U64, 3 * PAGE_U64));
    }
}
