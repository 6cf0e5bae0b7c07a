//! The content of a new program's stack: strings, auxiliary vector, environment, arguments.
use alloc::vec::Vec;
use linux_raw_sys::auxvec as at;

/// What goes on it.
#[derive(Debug)]
pub struct StackImage<'a> {
    /// Arguments.
    pub args: &'a [Vec<u8>],
    /// Environment.
    pub env: &'a [Vec<u8>],
    /// The program's path (`AT_EXECFN`).
    pub path: &'a [u8],
    /// Address of its program headers.
    pub phdr: u64,
    /// Their number.
    pub phnum: u64,
    /// Its entry point.
    pub entry: u64,
    /// Where the interpreter is, 0 without one.
    pub base: u64,
    /// Where the vDSO is, 0 without one.
    pub vdso: u64,
    /// Real, effective and saved user.
    pub uid: [u32; 3],
    /// Real, effective and saved group.
    pub gid: [u32; 3],
}

/// CPUID.1:EDX, as `AT_HWCAP` has it.
fn hwcap() -> u64 {
    u64::from(core::arch::x86_64::__cpuid(1).edx)
}

/// The stack's bytes, the address of the first one (the stack pointer), and the auxiliary vector; `None` when it is
/// too large.
pub fn build(content: &StackImage<'_>, top: u64) -> Option<(Vec<u8>, u64, Vec<u8>)> {
    let mut strings = Vec::new();
    let mut put = |bytes: &[u8]| {
        let at = strings.len() as u64;
        strings.extend_from_slice(bytes);
        strings.push(0);
        at
    };
    let args: Vec<u64> = content.args.iter().map(|s| put(s)).collect();
    let env: Vec<u64> = content.env.iter().map(|s| put(s)).collect();
    let path = put(content.path);
    let platform = put(b"x86_64");
    let mut seed = [0; 16];
    rt::thread::fill_random(&mut seed);
    let random = put(&seed);
    let strings_at = top.checked_sub(strings.len() as u64 + 16)? & !15;
    let mut aux: Vec<(u64, u64)> = Vec::new();
    let mut add = |key: u32, value: u64| aux.push((u64::from(key), value));
    if content.vdso != 0 {
        add(at::AT_SYSINFO_EHDR, content.vdso);
    }
    add(at::AT_MINSIGSTKSZ, hal::fpu::area_size() as u64 + 1024);
    add(at::AT_HWCAP, hwcap());
    add(at::AT_PAGESZ, 4096);
    add(at::AT_CLKTCK, 100);
    add(at::AT_PHDR, content.phdr);
    add(at::AT_PHENT, 56);
    add(at::AT_PHNUM, content.phnum);
    add(at::AT_BASE, content.base);
    add(at::AT_FLAGS, 0);
    add(at::AT_ENTRY, content.entry);
    add(at::AT_UID, content.uid[0].into());
    add(at::AT_EUID, content.uid[1].into());
    add(at::AT_GID, content.gid[0].into());
    add(at::AT_EGID, content.gid[1].into());
    add(at::AT_SECURE, 0);
    add(at::AT_RANDOM, strings_at + random);
    add(at::AT_HWCAP2, 0);
    add(at::AT_EXECFN, strings_at + path);
    add(at::AT_PLATFORM, strings_at + platform);
    add(at::AT_NULL, 0);
    let mut words: Vec<u64> = alloc::vec![args.len() as u64];
    words.extend(args.iter().map(|a| strings_at + a));
    words.push(0);
    words.extend(env.iter().map(|e| strings_at + e));
    words.push(0);
    let auxv: Vec<u8> = aux.iter().flat_map(|(k, v)| [k.to_le_bytes(), v.to_le_bytes()].concat()).collect();
    let nr_bytes = words.len() as u64 * 8 + auxv.len() as u64;
    let rsp = strings_at.checked_sub(nr_bytes)? & !15;
    let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    bytes.extend_from_slice(&auxv);
    bytes.resize((strings_at - rsp) as usize, 0);
    bytes.extend_from_slice(&strings);
    Some((bytes, rsp, auxv))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rt_std as _;

    #[test]
    fn the_stack_is_what_a_program_finds() {
        let strings = |all: &[&str]| all.iter().map(|s| s.as_bytes().to_vec()).collect::<Vec<_>>();
        let (args, env) = (strings(&["prog", "x"]), strings(&["A=1"]));
        let content = StackImage {
            args: &args,
            env: &env,
            path: b"/bin/prog",
            phdr: 0x40,
            phnum: 9,
            entry: 0x1000,
            base: 0,
            vdso: 0,
            uid: [0; 3],
            gid: [0; 3],
        };
        let top = 0x7fff_0000_0000;
        let (bytes, rsp, auxv) = build(&content, top).unwrap();
        assert_eq!(rsp % 16, 0);
        assert!(rsp + bytes.len() as u64 <= top);
        let word = |i: usize| u64::from_le_bytes(bytes[i * 8..i * 8 + 8].try_into().unwrap());
        let text = |at: u64| {
            let from = (at - rsp) as usize;
            let end = bytes[from..].iter().position(|b| *b == 0).unwrap();
            String::from_utf8(bytes[from..from + end].to_vec()).unwrap()
        };
        assert_eq!(word(0), 2);
        assert_eq!((text(word(1)), text(word(2)), word(3)), ("prog".into(), "x".into(), 0));
        assert_eq!((text(word(4)), word(5)), ("A=1".into(), 0));
        assert_eq!(&bytes[48..48 + auxv.len()], &auxv[..]);
        let aux: Vec<_> =
            (6..).step_by(2).map(|i| (word(i), word(i + 1))).take_while(|(k, _)| *k != 0).collect();
        let value = |key: u32| aux.iter().find(|(k, _)| *k == u64::from(key)).unwrap().1;
        assert_eq!(text(value(at::AT_EXECFN)), "/bin/prog");
        assert_eq!((value(at::AT_PHNUM), value(at::AT_ENTRY)), (9, 0x1000));
    }
}
