//! Parity over GF(2^8) with the polynomial 0x11d: P is the sum of the data columns, Q and R are Horner sums with the
//! generators 2 and 4. Columns shorter than the longest count as continued with zeroes.
use alloc::vec;
use alloc::vec::Vec;
use codec::gf256::{add, double_add, mul, mul_add};

/// The powers of 2: all elements but 0, after which they begin again.
const POWERS: [u8; 255] = {
    let (mut powers, mut at, mut power) = ([0; 255], 0, 1u8);
    while at < powers.len() {
        powers[at] = power;
        power = (power << 1) ^ if power & 0x80 == 0 { 0 } else { 0x1d };
        at += 1;
    }
    powers
};

/// The element whose product with `a` is 1; 0 for 0, which has none.
fn inverse(a: u8) -> u8 {
    (1..=255).find(|&b| mul(a, b) == 1).unwrap_or(0)
}

/// Weight of data column `column` of `nr_columns` in parity `row` (0 = P).
pub(super) fn weight(row: usize, column: usize, nr_columns: usize) -> u8 {
    // The generators 1, 2 and 4 are powers of 2 themselves.
    POWERS[row * (nr_columns - 1 - column) % POWERS.len()]
}

/// Parity `row` of the data columns, `len` bytes long.
pub(super) fn parity(row: usize, data: &[&[u8]], len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    for bytes in data {
        match row {
            0 => add(&mut out, bytes),
            1 => double_add(&mut out, bytes),
            _ => {
                double_add(&mut out, &[]);
                double_add(&mut out, bytes);
            }
        }
    }
    out
}

/// Recomputes data columns. `data` has the known ones, `None` for those of `lost` (at most three); `parities` has as
/// many (row, bytes) as are lost. `None` when there are too few.
pub(super) fn reconstruct(
    data: &[Option<&[u8]>],
    lost: &[(usize, usize)],
    parities: &[(usize, &[u8])],
) -> Option<Vec<Vec<u8>>> {
    let n = lost.len();
    let parities = parities.get(..n)?;
    // What the lost columns contribute to each parity.
    let syndromes: Vec<Vec<u8>> = parities
        .iter()
        .map(|(row, bytes)| {
            let mut sum = bytes.to_vec();
            for (column, known) in data.iter().enumerate() {
                mul_add(&mut sum, known.unwrap_or_default(), weight(*row, column, data.len()));
            }
            sum
        })
        .collect();
    let matrix: Vec<Vec<u8>> = parities
        .iter()
        .map(|(row, _)| lost.iter().map(|(column, _)| weight(*row, *column, data.len())).collect())
        .collect();
    let inverse = invert(matrix)?;
    let columns = lost.iter().enumerate().map(|(index, &(_, len))| {
        let mut out = vec![0; len];
        for (syndrome, weight) in syndromes.iter().zip(&inverse[index]) {
            mul_add(&mut out, &syndrome[..len.min(syndrome.len())], *weight);
        }
        out
    });
    Some(columns.collect())
}

/// The inverse of a square matrix, by elimination; `None` when it has none.
fn invert(mut matrix: Vec<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
    let n = matrix.len();
    for (index, row) in matrix.iter_mut().enumerate() {
        row.extend((0..n).map(|i| u8::from(i == index)));
    }
    for column in 0..n {
        let pivot = (column..n).find(|&row| matrix[row][column] != 0)?;
        matrix.swap(column, pivot);
        let scale = inverse(matrix[column][column]);
        matrix[column].iter_mut().for_each(|v| *v = mul(*v, scale));
        let pivot = matrix[column].clone();
        for (_, row) in matrix.iter_mut().enumerate().filter(|(index, _)| *index != column) {
            let factor = row[column];
            row.iter_mut().zip(&pivot).for_each(|(v, p)| *v ^= mul(*p, factor));
        }
    }
    Some(matrix.into_iter().map(|row| row[n..].to_vec()).collect())
}
