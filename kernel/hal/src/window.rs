//! A window of device registers: mapped memory or a range of ports. Accesses are checked against its length.
use crate::addr::PhysAddr;
use crate::io;
use crate::paging::{OutOfMemory, kernel};

#[derive(Clone, Copy, Debug)]
enum Place {
    Memory(usize),
    Ports(u16),
}

/// Registers of a device. Copies refer to the same registers.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    place: Place,
    len: usize,
}

macro_rules! access {
    ($read:ident, $write:ident, $type:ty, $in:ident, $out:ident) => {
        /// Reads at `offset`; all ones outside the window or where it is not aligned.
        #[inline]
        pub fn $read(&self, offset: usize) -> $type {
            match self.at::<$type>(offset) {
                // SAFETY: inside a mapped window of device memory, aligned.
                Some(Place::Memory(at)) => unsafe { (at as *const $type).read_volatile() },
                // SAFETY: a port of the device the window belongs to.
                Some(Place::Ports(port)) => unsafe { io::$in(port) },
                None => <$type>::MAX,
            }
        }

        /// Writes at `offset`; nothing outside the window or where it is not aligned.
        #[inline]
        pub fn $write(&self, offset: usize, value: $type) {
            match self.at::<$type>(offset) {
                // SAFETY: inside a mapped window of device memory, aligned.
                Some(Place::Memory(at)) => unsafe { (at as *mut $type).write_volatile(value) },
                // SAFETY: a port of the device the window belongs to.
                Some(Place::Ports(port)) => unsafe { io::$out(port, value) },
                None => {}
            }
        }
    };
}

impl Window {
    /// Maps device memory.
    ///
    /// # Errors
    /// No memory for page tables.
    pub fn memory(at: PhysAddr, len: usize) -> Result<Self, OutOfMemory> {
        Ok(Self { place: Place::Memory(kernel::map_device(at, len)? as usize), len })
    }

    /// A range of ports.
    pub fn ports(first: u16, len: u16) -> Self {
        Self { place: Place::Ports(first), len: usize::from(len.min(u16::MAX - first)) }
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no registers.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A part of it; `None` if it reaches beyond.
    pub fn part(&self, offset: usize, len: usize) -> Option<Self> {
        if offset.checked_add(len)? > self.len {
            return None;
        }
        let place = match self.place {
            Place::Memory(at) => Place::Memory(at + offset),
            Place::Ports(first) => Place::Ports(first + offset as u16),
        };
        Some(Self { place, len })
    }

    #[inline]
    fn at<T>(&self, offset: usize) -> Option<Place> {
        let is_inside = offset.checked_add(size_of::<T>())? <= self.len;
        match self.place {
            Place::Memory(at) if is_inside && (at + offset).is_multiple_of(size_of::<T>()) => {
                Some(Place::Memory(at + offset))
            }
            Place::Ports(first) if is_inside => Some(Place::Ports(first + offset as u16)),
            _ => None,
        }
    }

    access!(read8, write8, u8, inb, outb);
    access!(read16, write16, u16, inw, outw);
    access!(read32, write32, u32, inl, outl);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_is_touched() {
        let mut registers = [0x1111_1111_u32; 4];
        let window = Window { place: Place::Memory(registers.as_mut_ptr() as usize), len: 12 };
        window.write32(8, 5);
        window.write32(12, 6);
        window.write32(10, 7);
        window.write32(usize::MAX, 8);
        assert_eq!(window.read32(8), 5);
        assert_eq!((window.read32(12), window.read16(11), window.read8(12)), (u32::MAX, u16::MAX, u8::MAX));
        assert_eq!(registers, [0x1111_1111, 0x1111_1111, 5, 0x1111_1111]);
        let part = window.part(4, 8).expect("inside");
        assert_eq!(part.read32(4), 5);
        assert!(window.part(4, 9).is_none() && window.part(usize::MAX, 2).is_none());
    }
}
