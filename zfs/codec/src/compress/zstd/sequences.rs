//! The second section of a compressed block: sequences, each a run of literals and a copy of what came before.

use super::Source;
use super::bits::Backward;
use super::fse::Table;
use crate::error::{CodecError, Result};

/// What a code stands for: the least value, and the bits that are added to it.
type Codes<const N: usize> = [(u32, u8); N];

const RUN_CODES: Codes<36> =
    codes(0, 16, [1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
const COPY_CODES: Codes<53> =
    codes(3, 32, [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
/// Offsets have a bit more for each code; what needs more reaches behind every block.
const NR_OFFSET_CODES: usize = 32;

/// Codes without bits for the first values, then those with `bits`. Each code begins where the last one ended.
const fn codes<const N: usize, const M: usize>(first: u32, nr_plain: usize, bits: [u8; M]) -> Codes<N> {
    assert!(nr_plain + M == N);
    let mut codes = [(0, 0); N];
    let mut least = first;
    let mut at = 0;
    while at < N {
        let nr_bits = if at < nr_plain { 0 } else { bits[at - nr_plain] };
        codes[at] = (least, nr_bits);
        least += 1 << nr_bits;
        at += 1;
    }
    codes
}

const RUN_DEFAULT: [i16; 36] = [
    4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1,
    -1, -1,
];
const COPY_DEFAULT: [i16; 53] = [
    1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
];
const OFFSET_DEFAULT: [i16; 29] =
    [1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1];

/// A table, and whether a later block may use it again.
struct Coder<const SIZE: usize> {
    table: Table<SIZE>,
    is_set: bool,
}

impl<const SIZE: usize> Coder<SIZE> {
    fn new() -> Self {
        Self { table: Table::new(), is_set: false }
    }

    fn read(
        &mut self,
        mode: u8,
        source: &mut Source<'_>,
        default: (&[i16], u32),
        nr_symbols: usize,
    ) -> Result<()> {
        match mode {
            0 => self.table.build(default.0, default.1)?,
            1 => {
                let symbol = source.take(1)?[0];
                if usize::from(symbol) >= nr_symbols {
                    return Err(CodecError::Corrupt);
                }
                self.table.set_single(symbol);
            }
            2 => {
                let nr_bytes = self.table.read(source.0, nr_symbols)?;
                source.take(nr_bytes)?;
            }
            _ if self.is_set => {}
            _ => return Err(CodecError::Corrupt),
        }
        self.is_set = true;
        Ok(())
    }
}

struct Coders {
    run: Coder<512>,
    offset: Coder<256>,
    copy: Coder<512>,
}

/// A frame's memory for sequences: tables and the last three offsets.
pub(super) struct Sequences {
    coders: Coders,
    recent: [usize; 3],
}

impl Sequences {
    pub(super) fn new() -> Self {
        let coders = Coders { run: Coder::new(), offset: Coder::new(), copy: Coder::new() };
        Self { coders, recent: [1, 4, 8] }
    }

    /// Executes a block's sequences behind `filled` bytes of `out`; how many are filled then.
    pub(super) fn execute(
        &mut self,
        section: &[u8],
        literals: &[u8],
        out: &mut [u8],
        filled: usize,
    ) -> Result<usize> {
        let mut source = Source(section);
        let nr_sequences = read_count(&mut source)?;
        let mut output = Output { literals, out, filled };
        if nr_sequences > 0 {
            self.read_tables(&mut source)?;
            self.run(nr_sequences, source.0, &mut output)?;
        } else if !source.0.is_empty() {
            return Err(CodecError::Corrupt);
        }
        output.put_literals(output.literals.len())?;
        Ok(output.filled)
    }

    fn read_tables(&mut self, source: &mut Source<'_>) -> Result<()> {
        let modes = source.take(1)?[0];
        if modes & 3 != 0 {
            return Err(CodecError::Corrupt);
        }
        let Coders { run, offset, copy } = &mut self.coders;
        run.read(modes >> 6, source, (&RUN_DEFAULT, 6), RUN_CODES.len())?;
        offset.read(modes >> 4 & 3, source, (&OFFSET_DEFAULT, 5), NR_OFFSET_CODES)?;
        copy.read(modes >> 2 & 3, source, (&COPY_DEFAULT, 6), COPY_CODES.len())
    }

    fn run(&mut self, nr_sequences: usize, data: &[u8], output: &mut Output<'_>) -> Result<()> {
        let Coders { run: run_coder, offset: offset_coder, copy: copy_coder } = &self.coders;
        let mut bits = Backward::new(data)?;
        let mut run_state = run_coder.table.start(&mut bits);
        let mut offset_state = offset_coder.table.start(&mut bits);
        let mut copy_state = copy_coder.table.start(&mut bits);
        for nr in 0..nr_sequences {
            bits.refill();
            let offset_code = u32::from(offset_coder.table.symbol(offset_state));
            let offset = (1 << offset_code) + bits.read(offset_code);
            let copy = value(&COPY_CODES, copy_coder.table.symbol(copy_state), &mut bits);
            bits.refill();
            let run = value(&RUN_CODES, run_coder.table.symbol(run_state), &mut bits);
            if nr + 1 < nr_sequences {
                run_coder.table.step(&mut run_state, &mut bits);
                copy_coder.table.step(&mut copy_state, &mut bits);
                offset_coder.table.step(&mut offset_state, &mut bits);
            }
            if bits.is_overrun() {
                return Err(CodecError::Corrupt);
            }
            let distance = distance(&mut self.recent, offset as usize, run == 0);
            output.put_literals(run)?;
            output.copy(distance, copy)?;
        }
        bits.refill();
        if bits.is_finished() { Ok(()) } else { Err(CodecError::Corrupt) }
    }
}

fn value<const N: usize>(codes: &Codes<N>, code: u8, bits: &mut Backward<'_>) -> usize {
    // Codes out of range were refused with their table.
    let (least, nr_bits) = codes.get(usize::from(code)).copied().unwrap_or_default();
    least as usize + bits.read(u32::from(nr_bits)) as usize
}

fn read_count(source: &mut Source<'_>) -> Result<usize> {
    let head = source.number(1)? as usize;
    Ok(match head {
        0..128 => head,
        128..255 => (head - 128) << 8 | source.number(1)? as usize,
        _ => 0x7f00 + source.number(2)? as usize,
    })
}

/// What an offset value means, given the three before: 1 to 3 are those, one later when no literals come before.
pub(super) fn distance(recent: &mut [usize; 3], value: usize, is_run_empty: bool) -> usize {
    let [first, second, third] = *recent;
    let nr = value - usize::from(!is_run_empty);
    if value > 3 {
        *recent = [value - 3, first, second];
    } else if nr == 1 {
        *recent = [second, first, third];
    } else if nr == 2 {
        *recent = [third, first, second];
    } else if nr == 3 {
        // May become 0, which no copy accepts.
        *recent = [first.saturating_sub(1), first, second];
    }
    recent[0]
}

struct Output<'a> {
    literals: &'a [u8],
    out: &'a mut [u8],
    filled: usize,
}

impl Output<'_> {
    fn put_literals(&mut self, n: usize) -> Result<()> {
        let (bytes, rest) = self.literals.split_at_checked(n).ok_or(CodecError::Corrupt)?;
        let end = self.filled + n;
        self.out.get_mut(self.filled..end).ok_or(CodecError::Corrupt)?.copy_from_slice(bytes);
        (self.literals, self.filled) = (rest, end);
        Ok(())
    }

    /// Copies `n` bytes from `distance` before the end. What was just copied counts: the run between doubles each time.
    fn copy(&mut self, distance: usize, n: usize) -> Result<()> {
        let from = self.filled.checked_sub(distance).filter(|_| distance > 0).ok_or(CodecError::Corrupt)?;
        let end = self.filled + n;
        if end > self.out.len() {
            return Err(CodecError::Corrupt);
        }
        while self.filled < end {
            let n = (self.filled - from).min(end - self.filled);
            self.out.copy_within(from..from + n, self.filled);
            self.filled += n;
        }
        Ok(())
    }
}
