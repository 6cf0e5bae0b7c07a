//! How long a disk may take to answer, by the battery clock: it follows the host even where the CPU's clock counts
//! instructions.
use hal::rtc;
use rt::SpinLock;
use virtio_blk::Patience;

/// The word of the command line: seconds, 0 for no limit.
const WORD: &str = "disk_timeout=";
/// Longer than any host's storage stalls and comes back.
const LIMIT_DEFAULT: u32 = 120;

/// What the command line says, or else the default.
pub fn from_command_line(line: &str) -> Option<Patience> {
    let words = line.split_ascii_whitespace().take_while(|&word| word != "--");
    let asked = words.filter_map(|word| word.strip_prefix(WORD)?.parse().ok()).last();
    let limit = asked.unwrap_or(LIMIT_DEFAULT);
    (limit > 0).then_some(Patience { limit, clock: battery_seconds })
}

fn battery_seconds() -> Option<u64> {
    /// The clock's registers are read through a pair of ports.
    static TURN: SpinLock<()> = SpinLock::new(());
    let _turn = TURN.lock();
    u64::try_from(rtc::read_ns() / 1_000_000_000).ok().filter(|&seconds| seconds > 0)
}
