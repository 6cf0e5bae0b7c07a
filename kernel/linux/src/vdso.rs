//! The vDSO: clocks without a system call.
//!
//! One page, made at start: an ELF shared object with four functions and the constants they need. It is mapped like a
//! page of a private file. `getcpu` reads the processor's number through GS, which applications share with the
//! kernel because both run in ring 0.
#![expect(unsafe_code, reason = "the code's bytes are read through their labels")]
use crate::errno::SysResult;
use abd::{Abd, PageRef};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::arch::global_asm;
use mm::space::{AddressSpace, Backing, FileSource, MapPlace, MapRequest, Prot, VmaFlags};
use rt::Once;
use vfs::{Attr, DeviceId, FileSystem, FileType, MapAccess, SetAttr, StatFs, Vnode, VnodeRef};

global_asm!(
    r#"
    // rax = nanoseconds since time 0; changes rdx
    .macro VDSO_TICKS
    rdtsc
    shl rdx, 32
    or rax, rdx
    sub rax, [rip + linux_vdso_data]
    mul qword ptr [rip + linux_vdso_data + 8]
    shrd rax, rdx, 32
    .endm
    // rdx = rax / 1,000,000,000, by a multiplication; changes rax
    .macro VDSO_SECONDS
    shr rax, 9
    mov rdx, 0x44b82fa09b5a53
    mul rdx
    shr rdx, 11
    .endm
    .section .rodata.linux_vdso,"a",@progbits
    .balign 16
    .global linux_vdso_start, linux_vdso_end, linux_vdso_clock, linux_vdso_day, linux_vdso_time, linux_vdso_cpu
    .global linux_vdso_data
linux_vdso_start:
    // (edi clock, rsi timespec)
linux_vdso_clock:
    mov ecx, edi
    cmp edi, 7
    ja 9f
    mov eax, 0xf3
    bt eax, ecx
    jnc 9f
    lfence
    VDSO_TICKS
    mov edx, 0x21
    bt edx, ecx
    jnc 2f
    add rax, [rip + linux_vdso_data + 16]
2:  mov rcx, rax
    VDSO_SECONDS
    mov [rsi], rdx
    imul rdx, rdx, 1000000000
    sub rcx, rdx
    mov [rsi + 8], rcx
    xor eax, eax
    ret
9:  mov eax, 228
    syscall
    ret
    .balign 16
    // (rdi timeval, rsi timezone)
linux_vdso_day:
    test rdi, rdi
    jz 3f
    VDSO_TICKS
    add rax, [rip + linux_vdso_data + 16]
    mov rcx, rax
    VDSO_SECONDS
    mov [rdi], rdx
    imul rdx, rdx, 1000000000
    sub rcx, rdx
    mov rax, 0x20c49ba5e353f7cf
    shr rcx, 3
    mul rcx
    shr rdx, 4
    mov [rdi + 8], rdx
3:  test rsi, rsi
    jz 4f
    mov qword ptr [rsi], 0
4:  xor eax, eax
    ret
    .balign 16
    // (rdi time_t)
linux_vdso_time:
    VDSO_TICKS
    add rax, [rip + linux_vdso_data + 16]
    VDSO_SECONDS
    mov rax, rdx
    test rdi, rdi
    jz 5f
    mov [rdi], rax
5:  ret
    .balign 16
    // (rdi cpu, rsi node)
linux_vdso_cpu:
    mov eax, gs:[{cpu_id}]
    test rdi, rdi
    jz 6f
    mov [rdi], eax
6:  test rsi, rsi
    jz 7f
    mov dword ptr [rsi], 0
7:  xor eax, eax
    ret
    .balign 16
    // TSC at time 0, nanoseconds per tick << 32, wall clock at time 0
linux_vdso_data:
    .quad 0, 0, 0
linux_vdso_end:
    .text
    "#,
    cpu_id = const hal::cpu::OFFSET_ID,
);

unsafe extern "C" {
    static linux_vdso_start: u8;
    static linux_vdso_end: u8;
    static linux_vdso_clock: u8;
    static linux_vdso_day: u8;
    static linux_vdso_time: u8;
    static linux_vdso_cpu: u8;
    static linux_vdso_data: u8;
}

const PAGE: usize = 4096;
/// Where the code lies in the page.
const CODE_AT: usize = 0x400;

/// The constants of the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockData {
    /// TSC at time 0.
    pub base: u64,
    /// Nanoseconds per tick, times 2^32.
    pub mult: u64,
    /// Wall clock at time 0, nanoseconds since 1970.
    pub wall: u64,
}

fn code() -> &'static [u8] {
    let (start, end) = (&raw const linux_vdso_start, &raw const linux_vdso_end);
    // SAFETY: the two labels enclose initialised, constant bytes of one section.
    unsafe { core::slice::from_raw_parts(start, end.addr() - start.addr()) }
}

fn symbols() -> [(&'static [u8], usize); 8] {
    let at = |label: *const u8| CODE_AT + (label.addr() - (&raw const linux_vdso_start).addr());
    let (clock, day) = (at(&raw const linux_vdso_clock), at(&raw const linux_vdso_day));
    let (time, cpu) = (at(&raw const linux_vdso_time), at(&raw const linux_vdso_cpu));
    [
        (b"__vdso_clock_gettime", clock),
        (b"__vdso_gettimeofday", day),
        (b"__vdso_time", time),
        (b"__vdso_getcpu", cpu),
        (b"clock_gettime", clock),
        (b"gettimeofday", day),
        (b"time", time),
        (b"getcpu", cpu),
    ]
}

/// The page.
pub fn build(clock: ClockData) -> Vec<u8> {
    let symbols = symbols();
    let mut strings = Vec::from(&b"\0linux-vdso.so.1\0"[..]);
    let mut table: Vec<u8> = alloc::vec![0; 24];
    for (name, at) in symbols {
        let start = strings.len() as u32;
        strings.extend_from_slice(name);
        strings.push(0);
        // STB_GLOBAL, STT_FUNC, default visibility, in some section.
        table.extend_from_slice(&start.to_le_bytes());
        table.extend_from_slice(&[0x12, 0, 1, 0]);
        table.extend_from_slice(&(at as u64).to_le_bytes());
        table.extend_from_slice(&16_u64.to_le_bytes());
    }
    // One bucket: the chain is the whole table.
    let nr = symbols.len() as u32 + 1;
    let mut hashes: Vec<u32> = alloc::vec![1, nr, 1, 0];
    hashes.extend((1..nr).map(|i| if i + 1 < nr { i + 1 } else { 0 }));
    let mut page = alloc::vec![0; PAGE];
    let mut at = 64 + 2 * 56;
    let mut put = |bytes: &[u8]| {
        let here = at;
        page[here..here + bytes.len()].copy_from_slice(bytes);
        at = (here + bytes.len()).next_multiple_of(8);
        here as u64
    };
    let hash_at = put(&hashes.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>());
    let symtab_at = put(&table);
    let strtab_at = put(&strings);
    let dynamic: [(u64, u64); 7] =
        [(14, 1), (4, hash_at), (5, strtab_at), (6, symtab_at), (10, strings.len() as u64), (11, 24), (0, 0)];
    let bytes: Vec<u8> =
        dynamic.iter().flat_map(|(k, v)| [k.to_le_bytes(), v.to_le_bytes()].concat()).collect();
    let dynamic_at = put(&bytes);
    let end = at;
    assert!(end <= CODE_AT, "the vDSO's tables fit before its code");
    page[CODE_AT..CODE_AT + code().len()].copy_from_slice(code());
    let data_at = CODE_AT + ((&raw const linux_vdso_data).addr() - (&raw const linux_vdso_start).addr());
    for (i, word) in [clock.base, clock.mult, clock.wall].into_iter().enumerate() {
        page[data_at + i * 8..data_at + i * 8 + 8].copy_from_slice(&word.to_le_bytes());
    }
    put_headers(&mut page, dynamic_at, bytes.len() as u64);
    page
}

fn put_headers(page: &mut [u8], dynamic_at: u64, dynamic_len: u64) {
    let mut header = Vec::from(&b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"[..]);
    header.extend_from_slice(&[3, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0_u64, 64, 0] {
        header.extend_from_slice(&word.to_le_bytes());
    }
    header.extend_from_slice(&[0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 64, 0, 0, 0, 0, 0]);
    let mut program = |kind: u32, flags: u32, at: u64, len: u64, align: u64| {
        header.extend_from_slice(&kind.to_le_bytes());
        header.extend_from_slice(&flags.to_le_bytes());
        for word in [at, at, at, len, len, align] {
            header.extend_from_slice(&word.to_le_bytes());
        }
    };
    program(1, 5, 0, PAGE as u64, PAGE as u64);
    program(2, 4, dynamic_at, dynamic_len, 8);
    page[..header.len()].copy_from_slice(&header);
}

/// The page as a file, for mapping.
struct VdsoFile(Abd);

struct VdsoFs;

impl FileSystem for VdsoFs {
    fn root(&self) -> vfs::Result<VnodeRef> {
        Err(vfs::Error::NotFound)
    }
    fn statfs(&self) -> vfs::Result<StatFs> {
        Ok(StatFs::default())
    }
    fn sync(&self) -> vfs::Result<()> {
        Ok(())
    }
    fn unmount(&self) -> vfs::Result<()> {
        Ok(())
    }
    fn device_id(&self) -> DeviceId {
        DeviceId::default()
    }
}

impl Vnode for VdsoFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn kind(&self) -> FileType {
        FileType::Regular
    }
    fn ino(&self) -> u64 {
        1
    }
    fn fs(&self) -> Arc<dyn FileSystem> {
        Arc::new(VdsoFs)
    }
    fn getattr(&self) -> vfs::Result<Attr> {
        Err(vfs::Error::Unsupported)
    }
    fn setattr(&self, _set: &SetAttr) -> vfs::Result<()> {
        Err(vfs::Error::ReadOnly)
    }
    fn map_page(&self, offset: u64, _access: MapAccess) -> vfs::Result<PageRef> {
        let offset = usize::try_from(offset).map_err(|_| vfs::Error::NoSuchAddress)?;
        self.0.page_at(offset).ok_or(vfs::Error::NoSuchAddress)
    }
}

static FILE: Once<VnodeRef> = Once::new();

fn clock_data() -> ClockData {
    let scale = hal::clock::scale();
    let (wall, _) = hal::clock::wall_offset();
    ClockData { base: scale.base, mult: scale.mult, wall: wall as u64 }
}

/// Maps the vDSO; where.
///
/// # Errors
/// ENOMEM.
pub fn map(space: &AddressSpace) -> SysResult<u64> {
    let vnode = FILE.get_or_init(|| Arc::new(VdsoFile(Abd::copy_from(&build(clock_data()))))).clone();
    let file = FileSource { vnode, name: Arc::from(&b"[vdso]"[..]) };
    Ok(space.map(MapRequest {
        place: MapPlace::Hint(mm::space::USER_END - (1 << 36) + (1 << 30)),
        len: PAGE as u64,
        prot: Prot::READ | Prot::EXEC,
        flags: VmaFlags::SPECIAL,
        backing: Backing::Private { file, offset: 0 },
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_a_shared_object_with_the_four_functions() {
        let page = build(ClockData { base: 1, mult: 1 << 32, wall: 5 });
        let header = crate::elf::parse_header(&page).unwrap();
        let programs = &page[64..64 + header.phnum * crate::elf::PHENT];
        let program = crate::elf::parse_program(&header, programs).unwrap();
        assert_eq!(program.span(), (0, 4096));
        let text = |needle: &[u8]| page.windows(needle.len()).any(|w| w == needle);
        assert!(text(b"__vdso_clock_gettime\0") && text(b"linux-vdso.so.1\0"));
    }

    #[test]
    fn its_clock_divides_right() {
        assert!(code().len() < PAGE - CODE_AT);
        for ns in [0_u64, 999_999_999, 1_000_000_000, 1_763_862_000_123_456_789, u64::MAX / 2] {
            let q = ((u128::from(ns >> 9) * 0x0044_b82f_a09b_5a53) >> 64) as u64 >> 11;
            assert_eq!(q, ns / 1_000_000_000);
            let rest = ns % 1_000_000_000;
            let micros = ((u128::from(rest >> 3) * 0x20c4_9ba5_e353_f7cf) >> 64) as u64 >> 4;
            assert_eq!(micros, rest / 1000);
        }
    }
}
