//! A disk's content: sparse, and shared between copies until one of them changes.
use abd::Abd;
use std::fmt;
use std::sync::Arc;

/// Unit of sharing.
pub const PAGE: usize = 4096;
const ZEROES: &[u8] = &[0; PAGE];
const PAGE_U64: u64 = PAGE as u64;
/// Pages of a chunk. A write to a shared chunk copies its table, a copy of the image copies one reference for each.
const CHUNK: usize = 128;
const CHUNK_BYTES: u64 = (CHUNK * PAGE) as u64;

type Page = Arc<[u8; PAGE]>;
type Chunk = [Option<Page>; CHUNK];

/// Content of a disk. What was never written reads as zeroes.
#[derive(Clone)]
pub struct Image {
    capacity: u64,
    chunks: Vec<Option<Arc<Chunk>>>,
}

impl Image {
    /// All zeroes.
    pub fn new(capacity: u64) -> Self {
        let nr_chunks = usize::try_from(capacity.div_ceil(CHUNK_BYTES)).unwrap_or(0);
        Self { capacity, chunks: vec![None; nr_chunks] }
    }

    /// Bytes.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The same content on a disk of another size.
    pub fn resized(mut self, capacity: u64) -> Self {
        self.capacity = capacity;
        self.chunks.resize(usize::try_from(capacity.div_ceil(CHUNK_BYTES)).unwrap_or(0), None);
        self
    }

    /// Fills `out` from `offset`. The range lies inside.
    pub fn read(&self, offset: u64, out: &mut [u8]) {
        for_pages(offset, out.len(), |chunk, page, start, part| {
            let out = &mut out[part.clone()];
            match self.chunks.get(chunk).and_then(|c| c.as_ref()).and_then(|c| c[page].as_ref()) {
                Some(page) => out.copy_from_slice(&page[start..start + part.len()]),
                None => out.fill(0),
            }
        });
    }

    /// Stores `bytes` at `offset`. The range lies inside.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        for_pages(offset, bytes.len(), |chunk, page, start, part| {
            let bytes = &bytes[part];
            let Some(slot) = self.chunks.get_mut(chunk) else { return };
            let is_zero = bytes == ZEROES;
            if is_zero && slot.is_none() {
                return;
            }
            let table = slot.get_or_insert_with(|| Arc::new([const { None }; CHUNK]));
            let page = &mut Arc::make_mut(table)[page];
            if is_zero {
                *page = None;
            } else if bytes.len() == PAGE {
                let mut whole = [0; PAGE];
                whole.copy_from_slice(bytes);
                *page = Some(Arc::new(whole));
            } else {
                let page = page.get_or_insert_with(|| Arc::new([0; PAGE]));
                Arc::make_mut(page)[start..start + bytes.len()].copy_from_slice(bytes);
            }
        });
    }

    /// Stores a buffer at `offset`.
    pub fn write_abd(&mut self, offset: u64, data: &Abd) {
        let mut at = offset;
        for chunk in data.chunks() {
            self.write(at, chunk);
            at += chunk.len() as u64;
        }
    }

    /// Bytes of pages that hold something.
    pub fn allocated(&self) -> u64 {
        self.pages().count() as u64 * PAGE_U64
    }

    /// A number that differs between contents.
    pub fn digest(&self) -> u64 {
        self.pages().fold(self.capacity, |sum, (at, page)| {
            let words = page.chunks_exact(8).map(|w| w.iter().fold(0_u64, |n, b| n << 8 | u64::from(*b)));
            words.fold(mix(sum ^ at), |sum, word| mix(sum ^ word))
        })
    }

    /// Offsets of pages that hold something, and their content.
    pub fn pages(&self) -> impl Iterator<Item = (u64, &[u8; PAGE])> {
        self.chunks.iter().enumerate().flat_map(|(nr, chunk)| {
            let pages = chunk.iter().flat_map(|chunk| chunk.iter().enumerate());
            pages.filter_map(move |(index, page)| {
                let at = nr as u64 * CHUNK_BYTES + index as u64 * PAGE_U64;
                Some((at, &**page.as_ref()?))
            })
        })
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({} of {} bytes)", self.allocated(), self.capacity)
    }
}

fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    n ^ (n >> 32)
}

/// Calls `each` for the parts of a range that lie in one page: chunk, page, start in the page, part of the range.
fn for_pages(offset: u64, len: usize, mut each: impl FnMut(usize, usize, usize, std::ops::Range<usize>)) {
    let mut done = 0;
    while done < len {
        let at = offset + done as u64;
        let start = (at % PAGE_U64) as usize;
        let n = (len - done).min(PAGE - start);
        let chunk = (at / CHUNK_BYTES) as usize;
        let page = (at % CHUNK_BYTES / PAGE_U64) as usize;
        each(chunk, page, start, done..done + n);
        done += n;
    }
}
