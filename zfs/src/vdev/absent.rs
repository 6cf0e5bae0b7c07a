//! The device of a leaf that has none: every request fails.
use blockdev::{BlockDevice, Error, Geometry, QueueFull, Request, WriteCache};

/// No device.
#[derive(Debug)]
pub(crate) struct AbsentDevice;

impl BlockDevice for AbsentDevice {
    fn geometry(&self) -> Geometry {
        Geometry {
            logical_block_size: 512,
            physical_block_size: 512,
            capacity: 0,
            nr_queues: 1,
            max_transfer: 1 << 20,
            max_segments: 1,
            has_fua: false,
            discard: None,
            write_zeroes: None,
            write_cache: WriteCache::None,
            is_read_only: true,
        }
    }

    fn submit(&self, _queue: usize, request: Request) -> Result<(), QueueFull> {
        request.done.complete(Err(Error::Gone), None);
        Ok(())
    }

    fn poll(&self, _queue: usize) -> usize {
        0
    }
}
