//! Tables as zfs(8) prints them: columns two spaces apart, or one tab between fields.
use std::io::{BufWriter, Write};

/// Sizes as zfs(8) shows them: up to five characters, `1.50G`, `512B`.
pub fn nice(bytes: u64) -> String {
    let units = ['B', 'K', 'M', 'G', 'T', 'P', 'E'];
    let index = (bytes.checked_ilog2().unwrap_or(0) / 10) as usize;
    let unit = units[index];
    if index == 0 {
        return format!("{bytes}B");
    }
    let one = 1u64 << (10 * index);
    if bytes.is_multiple_of(one) {
        return format!("{}{unit}", bytes / one);
    }
    let value = bytes as f64 / one as f64;
    let fitting = [2, 1, 0].into_iter().map(|digits| format!("{value:.digits$}{unit}"));
    fitting.into_iter().find(|text| text.len() <= 5).unwrap_or_else(|| format!("{value:.0}{unit}"))
}

/// A moment as zfs(8) shows it, in UTC: `Mon Nov 23  6:26 2026`.
pub fn date(secs: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, rest) = (secs / 86_400, secs % 86_400);
    // Years that begin in March, in eras of 400: leap days come last.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    let (hour, minute) = (rest / 3600, rest % 3600 / 60);
    format!("{} {} {day:>2} {hour:>2}:{minute:02} {year}", DAYS[(days % 7) as usize], MONTHS[month as usize])
}

/// One column.
pub struct Column {
    /// Heading.
    pub name: String,
    /// Numbers stand at the right.
    pub is_right: bool,
}

/// Prints rows; with `is_script`, no heading and tabs.
///
/// # Errors
/// The output's.
pub fn print(columns: &[Column], rows: &[Vec<String>], is_script: bool) -> anyhow::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    if is_script {
        for row in rows {
            writeln!(out, "{}", row.join("\t"))?;
        }
        return Ok(out.flush()?);
    }
    let width = |index: usize| {
        let cells = rows.iter().map(|row| row[index].chars().count());
        cells.chain([columns[index].name.chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let heading: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
    for row in std::iter::once(&heading).chain(rows) {
        let mut line = String::new();
        for (index, cell) in row.iter().enumerate() {
            let (width, is_last) = (widths[index], index + 1 == row.len());
            let padded = match (columns[index].is_right, is_last) {
                (true, _) => format!("{cell:>width$}"),
                (false, true) => cell.clone(),
                (false, false) => format!("{cell:<width$}"),
            };
            line.push_str(&padded);
            line.push_str(if is_last { "" } else { "  " });
        }
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "Thu Jan  1  0:00 1970");
        assert_eq!(date(951_782_400), "Tue Feb 29  0:00 2000");
        assert_eq!(date(1_795_415_166), "Mon Nov 23  6:26 2026");
    }

    #[test]
    fn sizes_have_five_characters_at_most() {
        let cases = [
            (0, "0B"),
            (512, "512B"),
            (1024, "1K"),
            (1536, "1.50K"),
            (24 << 10, "24K"),
            (25_088, "24.5K"),
            (123_456_789, "118M"),
            (12_345_678, "11.8M"),
            (1_234_567_890, "1.15G"),
        ];
        for (bytes, text) in cases {
            assert_eq!(nice(bytes), text);
        }
    }
}
