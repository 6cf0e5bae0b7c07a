//! Amounts, times and dates as zpool(8) prints them.
use crate::cli::pool::Naming;
use std::time::{SystemTime, UNIX_EPOCH};
use zfs::spa::VdevInfo;

/// Bytes with three significant digits: `0B`, `512B`, `1.50M`, `128K`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 7] = ["B", "K", "M", "G", "T", "P", "E"];
    let index = (n.max(1).ilog2() / 10) as usize;
    let unit = UNITS[index];
    let base = 1u64 << (10 * index);
    if n.is_multiple_of(base) {
        return format!("{}{unit}", n / base);
    }
    let value = n as f64 / base as f64;
    let fits = (0..=2).rev().map(|digits| format!("{value:.digits$}{unit}")).find(|text| text.len() <= 5);
    fits.unwrap_or_else(|| format!("{value:.0}{unit}"))
}

/// What a vdev is called: a device's file name, `mirror-0`, `raidz1-0`; paths and guids where they are asked for.
pub fn shown(vdev: &VdevInfo, naming: Naming) -> String {
    let is_device = vdev.children.is_empty() && vdev.kind != "root";
    match vdev.name() {
        _ if naming.guids && vdev.kind != "root" => vdev.guid.to_string(),
        name if is_device && !naming.full_paths => name.rsplit('/').next().unwrap_or_default().to_owned(),
        name => name,
    }
}

/// A span of seconds.
pub fn span(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let clock = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    if days > 0 { format!("{days} days {clock}") } else { clock }
}

/// Seconds since 1970 now.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Year, month, day, day of the week (0 = Sunday) of a day since 1970.
fn civil(days: u64) -> (u64, usize, u64, usize) {
    // Counted from 1 March of year 0, so that leap days come last in their year.
    let z = days + 719_468;
    let (era, day) = (z / 146_097, z % 146_097);
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month as usize, day_of_month, ((days + 4) % 7) as usize)
}

/// `Sun Nov 23 06:20:16 2026`, UTC.
pub fn date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (year, month, day, weekday) = civil(seconds / 86_400);
    let clock = span(seconds % 86_400);
    format!("{} {} {day:>2} {clock} {year}", DAYS[weekday], MONTHS[month - 1])
}

/// `2026-11-23.06:20:16`, UTC: how histories are dated.
pub fn stamp(seconds: u64) -> String {
    let (year, month, day, _) = civil(seconds / 86_400);
    format!("{year}-{month:02}-{day:02}.{}", span(seconds % 86_400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_three_digits() {
        let shown = [0, 512, 1024, 1536, 131_072, 1_572_864, 10_700_000, 1_234_567_890].map(bytes);
        assert_eq!(shown, ["0B", "512B", "1K", "1.50K", "128K", "1.50M", "10.2M", "1.15G"]);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "Thu Jan  1 00:00:00 1970");
        assert_eq!(date(951_782_400), "Tue Feb 29 00:00:00 2000");
        assert_eq!(date(1_795_414_816), "Mon Nov 23 06:20:16 2026");
        assert_eq!(stamp(1_795_414_816), "2026-11-23.06:20:16");
        assert_eq!(span(90_061), "1 days 01:01:01");
    }
}
