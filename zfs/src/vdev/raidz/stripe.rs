//! A read of several columns, put together when the last has arrived.
use super::map::Map;
use super::parity::reconstruct;
use abd::AbdMut;
use alloc::vec::Vec;
use blockdev::{Complete, Completion, Done};
use rt::SpinLock;

/// A read under way.
#[derive(Debug)]
pub(super) struct Stripe {
    map: Map,
    state: SpinLock<State>,
}

#[derive(Debug)]
struct State {
    nr_left: usize,
    /// By column; what was not asked for stays empty.
    columns: Vec<Option<AbdMut>>,
    error: Option<blockdev::Error>,
    done: Option<Completion>,
}

impl Stripe {
    /// Waits for `nr` columns; their completions' tags are the columns' indexes.
    pub(super) fn new(map: Map, nr: usize, done: Completion) -> Self {
        let columns = map.columns.iter().map(|_| None).collect();
        let state = State { nr_left: nr, columns, error: None, done: Some(done) };
        Self { map, state: SpinLock::new(state) }
    }

    /// The block's bytes from its columns, the missing data columns from parity.
    fn assemble(&self, columns: &[Option<AbdMut>]) -> Option<AbdMut> {
        let nparity = self.map.parity().len();
        let slice = |index: usize| columns.get(index)?.as_ref()?.as_slice();
        let data: Vec<Option<&[u8]>> = (nparity..columns.len()).map(slice).collect();
        let lost: Vec<(usize, usize)> = self
            .map
            .data()
            .iter()
            .enumerate()
            .filter(|(index, _)| data[*index].is_none())
            .map(|(index, column)| (index, column.len))
            .collect();
        let parities: Vec<(usize, &[u8])> =
            (0..nparity).filter_map(|row| slice(row).map(|bytes| (row, bytes))).collect();
        let rebuilt = if lost.is_empty() { Vec::new() } else { reconstruct(&data, &lost, &parities)? };
        let mut out = AbdMut::zeroed(self.map.data().iter().map(|c| c.len).sum());
        for (index, range) in self.map.data_ranges().enumerate() {
            let found = lost.iter().position(|(column, _)| *column == index);
            let bytes = match found {
                Some(at) => rebuilt.get(at)?.as_slice(),
                None => data[index]?,
            };
            out.write_at(range.start, bytes.get(..range.len())?);
        }
        Some(out)
    }
}

impl Complete for Stripe {
    fn complete(&self, done: Done) {
        let mut state = self.state.lock();
        match done.result {
            Ok(()) => {
                if let Some(column) = state.columns.get_mut(done.tag as usize) {
                    *column = done.buf;
                }
            }
            Err(error) => state.error = Some(error),
        }
        state.nr_left -= 1;
        if state.nr_left > 0 {
            return;
        }
        let (columns, error) = (core::mem::take(&mut state.columns), state.error);
        let Some(completion) = state.done.take() else { return };
        drop(state);
        if let Some(error) = error {
            return completion.complete(Err(error), None);
        }
        match self.assemble(&columns) {
            Some(block) => completion.complete(Ok(()), Some(block)),
            None => completion.complete(Err(blockdev::Error::Io), None),
        }
    }
}
