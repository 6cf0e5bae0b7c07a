//! Sets, queues and layouts.
use super::*;
use proptest::prelude::*;

fn from(signo: u32, pid: i32) -> SigInfo {
    SigInfo { signo, code: info::SI_USER, source: Source::Process { pid, uid: 0 } }
}

#[test]
fn standard_signals_are_pending_once_and_real_time_ones_queue() {
    let pending = Pending::new();
    assert!(pending.push(from(SIGTERM, 1)));
    assert!(!pending.push(from(SIGTERM, 2)));
    assert!(pending.push(from(40, 1)) && pending.push(from(40, 2)));
    assert_eq!(pending.take(SigSet(u64::MAX)), Some(from(SIGTERM, 1)));
    assert_eq!(pending.take(SigSet(u64::MAX)), Some(from(40, 1)));
    assert!(pending.set().contains(40));
    assert_eq!(pending.take(SigSet(u64::MAX)), Some(from(40, 2)));
    assert_eq!(pending.set(), SigSet(0));
}

#[test]
fn faults_come_first() {
    let pending = Pending::new();
    pending.push(from(SIGHUP, 1));
    pending.push(from(SIGSEGV, 1));
    assert_eq!(pending.take(SigSet(u64::MAX)).map(|i| i.signo), Some(SIGSEGV));
}

#[test]
fn masks_never_hold_kill_or_stop() {
    let mask = SigSet(u64::MAX).as_mask();
    assert!(!mask.contains(SIGKILL) && !mask.contains(SIGSTOP) && mask.contains(SIGTERM));
    assert!(!SigSet(u64::MAX).contains(0) && !SigSet(u64::MAX).contains(65));
}

#[test]
fn siginfo_has_linux_layout() {
    let child = SigInfo {
        signo: SIGCHLD,
        code: info::CLD_EXITED,
        source: Source::Child { pid: 7, uid: 8, status: 9 },
    };
    let bytes = child.to_bytes();
    assert_eq!((bytes[0], bytes[8], bytes[16], bytes[20], bytes[24]), (17, 1, 7, 8, 9));
    let fault =
        SigInfo { signo: SIGSEGV, code: info::SEGV_MAPERR, source: Source::Fault { addr: 0x1234_5678_9abc } };
    assert_eq!(&fault.to_bytes()[16..24], &0x1234_5678_9abc_u64.to_le_bytes());
}

#[test]
fn execve_keeps_what_is_ignored() {
    let actions = Actions::new();
    actions.set(SIGPIPE, Action { handler: SIG_IGN, ..Action::default() });
    actions.set(SIGTERM, Action { handler: 0x1000, flags: SA_RESTART, ..Action::default() });
    actions.reset_handlers();
    assert_eq!(actions.get(SIGPIPE).handler, SIG_IGN);
    assert_eq!(actions.get(SIGTERM), Action::default());
    assert!(actions.is_ignored(SIGCHLD) && !actions.is_ignored(SIGTERM));
}

proptest! {
    #[test]
    fn what_is_taken_was_pushed_and_wanted(pushed in prop::collection::vec((1_u32..=64, 0_i32..4), 0..40), wanted: u64) {
        let pending = Pending::new();
        let mut inside: Vec<_> =
            pushed.into_iter().map(|(s, p)| from(s, p)).filter(|i| pending.push(*i)).collect();
        while let Some(info) = pending.take(SigSet(wanted)) {
            prop_assert!(SigSet(wanted).contains(info.signo));
            let at = inside.iter().position(|i| *i == info);
            prop_assert!(at.is_some());
            inside.remove(at.unwrap_or(0));
        }
        prop_assert!(inside.iter().all(|i| !SigSet(wanted).contains(i.signo)));
        let bits = inside.iter().fold(0, |b, i| b | bit(i.signo));
        prop_assert_eq!(pending.set().0, bits);
    }
}
