//! Stack traces by frame pointers, and names from the compact symbol table of the prepared image.
//!
//! The table (made by the `kernel-boot` crate from the ELF's own symbols):
//! `b"ZSYM"`, count (u32), then per symbol the offset of its address from the image base (u32, ascending), then
//! count + 1 offsets of names (u32) from the end of this list, then the names. All little-endian.
use crate::addr::{IMAGE_BASE, PAGE_SIZE, PhysAddr};
use core::sync::atomic::{AtomicUsize, Ordering};

const MAGIC: &[u8; 4] = b"ZSYM";
/// Frames shown at most: a damaged chain may loop.
const DEPTH_MAX: usize = 48;

static TABLE_AT: AtomicUsize = AtomicUsize::new(0);
static TABLE_LEN: AtomicUsize = AtomicUsize::new(0);

/// Makes names available from the table at `at`, if there is one.
///
/// # Safety
/// `at..at+len` is mapped for ever and never written.
pub unsafe fn set_table(at: usize, len: usize) {
    TABLE_LEN.store(len, Ordering::Relaxed);
    TABLE_AT.store(at, Ordering::Release);
}

fn table() -> Option<Table<'static>> {
    let at = TABLE_AT.load(Ordering::Acquire);
    if at == 0 {
        return None;
    }
    // SAFETY: the promise of set_table.
    Table::parse(unsafe { core::slice::from_raw_parts(at as *const u8, TABLE_LEN.load(Ordering::Relaxed)) })
}

/// A parsed symbol table.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    addresses: &'a [u8],
    offsets: &'a [u8],
    names: &'a [u8],
}

fn word(list: &[u8], n: usize) -> Option<u32> {
    let bytes = list.get(n.checked_mul(4)?..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

impl<'a> Table<'a> {
    /// Reads a table; `None` if it is not one.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let nr = word(rest, 0)? as usize;
        let (addresses, rest) = rest.get(4..)?.split_at_checked(nr.checked_mul(4)?)?;
        let (offsets, names) = rest.split_at_checked(nr.checked_add(1)?.checked_mul(4)?)?;
        Some(Self { addresses, offsets, names })
    }

    /// The symbol that contains `offset` from the image base, and how far into it.
    pub fn find(&self, offset: u32) -> Option<(&'a str, u32)> {
        let (mut low, mut high) = (0, self.addresses.len() / 4);
        while low < high {
            let middle = low + (high - low) / 2;
            if word(self.addresses, middle)? <= offset { low = middle + 1 } else { high = middle }
        }
        let n = low.checked_sub(1)?;
        let (from, to) = (word(self.offsets, n)? as usize, word(self.offsets, n + 1)? as usize);
        let name = core::str::from_utf8(self.names.get(from..to)?).ok()?;
        Some((name, offset - word(self.addresses, n)?))
    }
}

/// The name of the function at `address`, and how far into it.
pub fn symbol(address: usize) -> Option<(&'static str, u32)> {
    let offset = u32::try_from(address.checked_sub(IMAGE_BASE)?).ok()?;
    table()?.find(offset)
}

/// Calls `visit` with the return addresses found from frame pointer `frame` on, innermost first.
pub fn walk(frame: usize, mut visit: impl FnMut(usize)) {
    let mut frame = frame;
    for _ in 0..DEPTH_MAX {
        if !is_kernel_stack(frame) {
            return;
        }
        // SAFETY: two words of mapped kernel memory.
        let (next, ret) = unsafe { (*(frame as *const usize), *((frame + 8) as *const usize)) };
        if ret < IMAGE_BASE {
            return;
        }
        visit(ret);
        // Stacks grow down: a frame below its callee's is damage.
        if next <= frame {
            return;
        }
        frame = next;
    }
}

/// Whether two words at `frame` can be read: on a stack in the image, in the direct map or in the stack area.
fn is_kernel_stack(frame: usize) -> bool {
    if !frame.is_multiple_of(8) || frame % PAGE_SIZE > PAGE_SIZE - 16 {
        return false;
    }
    let is_mapped = crate::paging::kernel::is_mapped(frame);
    is_mapped && (frame >= crate::addr::STACK_AREA || PhysAddr::of_virt(frame).is_some())
}

/// The caller's frame pointer.
#[inline(always)]
pub fn frame_pointer() -> usize {
    let frame;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack, preserves_flags)) };
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn build(symbols: &[(u32, &str)]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend((symbols.len() as u32).to_le_bytes());
        symbols.iter().for_each(|s| bytes.extend(s.0.to_le_bytes()));
        let mut at = 0;
        for s in symbols {
            bytes.extend((at as u32).to_le_bytes());
            at += s.1.len();
        }
        bytes.extend((at as u32).to_le_bytes());
        symbols.iter().for_each(|s| bytes.extend(s.1.as_bytes()));
        bytes
    }

    #[test]
    fn finds_the_function_around_an_address() {
        let bytes = build(&[(0x1000, "first"), (0x1010, "second"), (0x2000, "third")]);
        let table = Table::parse(&bytes).expect("valid");
        assert_eq!(table.find(0xfff), None);
        assert_eq!(table.find(0x1000), Some(("first", 0)));
        assert_eq!(table.find(0x100f), Some(("first", 0xf)));
        assert_eq!(table.find(0x1fff), Some(("second", 0xfef)));
        assert_eq!(table.find(u32::MAX), Some(("third", u32::MAX - 0x2000)));
    }

    #[test]
    fn damage_is_no_symbol() {
        let bytes = build(&[(0x1000, "first"), (0x1010, "second")]);
        for len in 0..bytes.len() {
            if let Some(table) = Table::parse(&bytes[..len]) {
                let _ = table.find(0x1010);
            }
        }
        assert!(Table::parse(b"ZSYM\xff\xff\xff\xff").is_none());
    }
}
