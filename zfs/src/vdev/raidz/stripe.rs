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
}

/// The block's bytes from its columns (by index, parity first), the missing data columns from parity.
pub(super) fn assemble(map: &Map, columns: &[Option<&[u8]>]) -> Option<AbdMut> {
    let nparity = map.parity().len();
    let (parity, data) = columns.split_at_checked(nparity)?;
    let lost: Vec<(usize, usize)> = map
        .data()
        .iter()
        .enumerate()
        .filter(|(index, _)| data.get(*index).is_none_or(Option::is_none))
        .map(|(index, column)| (index, column.len))
        .collect();
    let parities: Vec<(usize, &[u8])> =
        parity.iter().enumerate().filter_map(|(row, bytes)| Some((row, (*bytes)?))).collect();
    let rebuilt = if lost.is_empty() { Vec::new() } else { reconstruct(data, &lost, &parities)? };
    let mut out = AbdMut::zeroed(map.data().iter().map(|c| c.len).sum());
    for (index, range) in map.data_ranges().enumerate() {
        let found = lost.iter().position(|(column, _)| *column == index);
        let bytes = match found {
            Some(at) => rebuilt.get(at)?.as_slice(),
            None => data[index]?,
        };
        out.write_at(range.start, bytes.get(..range.len())?);
    }
    Some(out)
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
        let columns: Vec<Option<&[u8]>> = columns.iter().map(|c| c.as_ref()?.as_slice()).collect();
        match assemble(&self.map, &columns) {
            Some(block) => completion.complete(Ok(()), Some(block)),
            None => completion.complete(Err(blockdev::Error::Io), None),
        }
    }
}
