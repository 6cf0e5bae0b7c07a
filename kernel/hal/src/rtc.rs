//! The battery clock: the wall clock at boot, in seconds, UTC.
use crate::io;

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;
/// Reads until two agree, at most this often: an absent clock answers nonsense, not for ever.
const TRIES_MAX: usize = 100;

fn register(index: u8) -> u8 {
    // SAFETY: bit 7 keeps NMI off for the moment; reading a clock register changes nothing.
    unsafe {
        io::outb(INDEX, 0x80 | index);
        io::inb(DATA)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    /// Seconds, minutes, hours, day, month, year of the century.
    fields: [u8; 6],
    century: u8,
    mode: u8,
}

fn read_once() -> Reading {
    let fields = [0, 2, 4, 7, 8, 9].map(register);
    Reading { fields, century: register(0x32), mode: register(0xb) }
}

/// Nanoseconds since 1970; 0 if there is no believable clock.
pub fn read_ns() -> i64 {
    const UPDATE_IN_PROGRESS: u8 = 0x80;
    for _ in 0..TRIES_MAX {
        if register(0xa) & UPDATE_IN_PROGRESS != 0 {
            continue;
        }
        let reading = read_once();
        if reading == read_once() {
            return seconds(&reading).map_or(0, |s| s * 1_000_000_000);
        }
    }
    0
}

fn seconds(reading: &Reading) -> Option<i64> {
    const MODE_BINARY: u8 = 4;
    const MODE_24_HOURS: u8 = 2;
    let is_binary = reading.mode & MODE_BINARY != 0;
    let decode = |v: u8| if is_binary { v } else { (v >> 4) * 10 + (v & 15) };
    let is_pm = reading.mode & MODE_24_HOURS == 0 && reading.fields[2] & 0x80 != 0;
    let mut fields = reading.fields;
    if reading.mode & MODE_24_HOURS == 0 {
        fields[2] &= 0x7f;
    }
    let [second, minute, mut hour, day, month, year] = fields.map(|v| i64::from(decode(v)));
    if reading.mode & MODE_24_HOURS == 0 {
        hour = hour % 12 + if is_pm { 12 } else { 0 };
    }
    let century = match i64::from(decode(reading.century)) {
        c @ 19..=21 => c,
        _ => 20,
    };
    let is_valid =
        second < 60 && minute < 60 && hour < 24 && (1..=31).contains(&day) && (1..=12).contains(&month);
    is_valid.then(|| ((days(century * 100 + year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days from 1970-01-01 to a Gregorian date.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March put the leap day last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_year = (153 * m + 2) / 5 + day - 1;
    y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 3, 1), 11_017);
        assert_eq!(days(2026, 11, 23), 20_780);
    }

    #[test]
    fn decodes_bcd_and_binary() {
        let bcd = Reading { fields: [0x59, 0x34, 0x12, 0x23, 0x11, 0x26], century: 0x20, mode: 2 };
        let binary = Reading { fields: [59, 34, 12, 23, 11, 26], century: 20, mode: 6 };
        let expected = 20_780 * 86_400 + (12 * 60 + 34) * 60 + 59;
        assert_eq!(seconds(&bcd), Some(expected));
        assert_eq!(seconds(&binary), Some(expected));
        let afternoon = Reading { fields: [0x59, 0x34, 0x92, 0x23, 0x11, 0x26], century: 0x20, mode: 0 };
        assert_eq!(seconds(&afternoon), Some(expected), "12:34:59 p.m. is after noon, not midnight");
    }

    #[test]
    fn rejects_nonsense() {
        let absent = Reading { fields: [0xff; 6], century: 0xff, mode: 0xff };
        assert_eq!(seconds(&absent), None);
    }
}
