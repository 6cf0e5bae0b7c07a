//! Real files of this machine, and bytes no linker would write.
use super::*;
use proptest::prelude::*;

fn load(path: &str) -> (Header, Program) {
    let bytes = std::fs::read(path).unwrap();
    let header = parse_header(&bytes).unwrap();
    let from = header.phoff as usize;
    let program = parse_program(&header, &bytes[from..from + header.phnum * PHENT]).unwrap();
    (header, program)
}

#[test]
fn this_test_program_is_a_dynamic_executable() {
    let path = std::env::current_exe().unwrap();
    let (header, program) = load(path.to_str().unwrap());
    assert!(!header.is_fixed && program.interp.is_some());
    assert!(program.segments.iter().any(|s| s.is_executable && !s.is_writable));
    assert_eq!(program.phdr, Some(64));
    assert!(!program.has_executable_stack);
    let (start, len) = program.span();
    assert!(start == 0 && program.segments.iter().all(|s| s.vaddr + s.memsz <= len));
}

#[test]
fn scripts_name_their_interpreter() {
    assert_eq!(parse_script(b"#!/bin/sh\nx"), Ok((&b"/bin/sh"[..], None)));
    assert_eq!(
        parse_script(b"#! /usr/bin/env  python3 -u \n"),
        Ok((&b"/usr/bin/env"[..], Some(&b"python3 -u"[..])))
    );
    assert_eq!(parse_script(b"#!/bin/sh"), Err(Errno::ENOEXEC));
    assert_eq!(parse_script(b"#!\n"), Err(Errno::ENOEXEC));
    assert_eq!(parse_script(b"text\n"), Err(Errno::ENOEXEC));
}

#[test]
fn foreign_machines_are_refused() {
    let mut bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    bytes[18] = 40;
    assert_eq!(parse_header(&bytes), Err(Errno::ENOEXEC));
    assert_eq!(parse_header(&bytes[..63]), Err(Errno::ENOEXEC));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_sound(mut bytes in prop::collection::vec(any::<u8>(), 64..1200), phnum in 1_u16..8) {
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        bytes[16..20].copy_from_slice(&[3, 0, 62, 0]);
        bytes[54..58].copy_from_slice(&[56, 0, phnum as u8, 0]);
        let header = parse_header(&bytes).unwrap();
        let mut programs = bytes[64..].to_vec();
        programs.chunks_exact_mut(PHENT).for_each(|c| {
            let kind = c[0] % 8;
            c[..4].copy_from_slice(&[kind, 0, 0, 0]);
        });
        if let Ok(program) = parse_program(&header, &programs) {
            let (start, len) = program.span();
            prop_assert!(start.checked_add(len).is_some());
            for s in &program.segments {
                prop_assert!(s.filesz <= s.memsz && s.vaddr + s.memsz <= ADDRESS_MAX && s.align.is_power_of_two());
            }
        }
    }

    #[test]
    fn damaged_headers_never_panic(at in 0_usize..1024, value: u8) {
        let mut bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        bytes.truncate(4096);
        bytes[at] = value;
        if let Ok(header) = parse_header(&bytes) {
            let from = usize::try_from(header.phoff).unwrap_or(usize::MAX);
            if let Some(programs) = from.checked_add(header.phnum * PHENT).and_then(|end| bytes.get(from..end)) {
                let _ = parse_program(&header, programs);
            }
        }
    }

    #[test]
    fn script_lines_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse_script(&bytes);
    }
}
