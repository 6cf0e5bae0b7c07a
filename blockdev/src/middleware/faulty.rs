//! A device that fails or damages the requests a rule picks.
use crate::device::{BlockDevice, Geometry, QueueFull};
use crate::error::Error;
use crate::request::{Op, Request};
use abd::Abd;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this and has no effect.
    Fail(Error),
    /// A write or flush reports success and has no effect.
    Lose,
    /// A write stores its data with the byte at this position (modulo its length) inverted, and reports success.
    Damage(usize),
}

type Rule = Box<dyn Fn(&Op) -> Option<Fault> + Send + Sync>;

/// A device with faults.
pub struct Faulty {
    device: Arc<dyn BlockDevice>,
    rule: Rule,
}

impl Faulty {
    /// Asks `rule` about every request.
    pub fn new(
        device: Arc<dyn BlockDevice>,
        rule: impl Fn(&Op) -> Option<Fault> + Send + Sync + 'static,
    ) -> Self {
        Self { device, rule: Box::new(rule) }
    }
}

impl BlockDevice for Faulty {
    fn geometry(&self) -> Geometry {
        self.device.geometry()
    }

    fn submit(&self, queue: usize, request: Request) -> Result<(), QueueFull> {
        let Some(fault) = (self.rule)(&request.op) else { return self.device.submit(queue, request) };
        let Request { op, done } = request;
        match (fault, op) {
            (Fault::Fail(error), Op::Read { buf, .. }) => done.complete(Err(error), Some(buf)),
            (Fault::Fail(error), _) => done.complete(Err(error), None),
            (Fault::Damage(at), Op::Write { offset, data, is_fua }) if !data.is_empty() => {
                let mut bytes = data.to_vec();
                let at = at % bytes.len();
                bytes[at] = !bytes[at];
                let op = Op::Write { offset, data: Abd::copy_from(&bytes), is_fua };
                return self.device.submit(queue, Request { op, done });
            }
            (_, op @ Op::Read { .. }) => return self.device.submit(queue, Request { op, done }),
            (_, _) => done.complete(Ok(()), None),
        }
        Ok(())
    }

    fn poll(&self, queue: usize) -> usize {
        self.device.poll(queue)
    }

    fn is_fua_shared(&self) -> bool {
        self.device.is_fua_shared()
    }

    fn poll_begin(&self, queue: usize) {
        self.device.poll_begin(queue);
    }

    fn poll_end(&self, queue: usize) {
        self.device.poll_end(queue);
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({:?})", self.device)
    }
}
