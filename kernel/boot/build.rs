//! Assembles the BIOS loader (16-bit code cannot be linked into a library) and cuts it to flat bytes.
use std::env::var;
use std::path::Path;
use std::process::Command;

/// Boot sector at 0x7c00, second stage at 0x7e00.
const LOAD_ADDRESS: u64 = 0x7c00;
const LOADER_SIZE: usize = 512 + 4096;

fn main() {
    if let Err(e) = build() {
        println!("cargo::error=cannot build the BIOS loader: {e}");
    }
}

fn build() -> Result<(), Box<dyn std::error::Error>> {
    let (dir, out, rustc) = (var("CARGO_MANIFEST_DIR")?, var("OUT_DIR")?, var("RUSTC")?);
    println!("cargo:rerun-if-changed=loader");
    let elf = Path::new(&out).join("loader.elf");
    let script = format!("link-arg=-Wl,-T,{dir}/loader/loader.ld");
    let flags = [
        "link-arg=-nostartfiles",
        "link-arg=-nostdlib",
        "link-arg=-static",
        "link-arg=-no-pie",
        "link-arg=-Wl,--gc-sections",
        "link-arg=-Wl,--build-id=none",
        "link-arg=-Wl,-z,norelro",
        "panic=abort",
        &script,
    ];
    let status = Command::new(rustc)
        .args(["--edition", "2024", "--crate-name", "loader", "--crate-type", "bin"])
        .args(flags.iter().flat_map(|flag| ["-C", flag]))
        .arg("-o")
        .arg(&elf)
        .arg(format!("{dir}/loader/main.rs"))
        .status()?;
    if !status.success() {
        return Err("the compiler failed".into());
    }
    let flat = flatten(&std::fs::read(&elf)?).ok_or("the linker's output is not as expected")?;
    std::fs::write(Path::new(&out).join("loader.bin"), flat)?;
    Ok(())
}

/// The bytes from the load address on, taken from the sections: the linker may put headers into the first segment.
fn flatten(elf: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize, len: usize| {
        let bytes = elf.get(at..at + len)?;
        Some(bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)))
    };
    let (table, nr) = (word(40, 8)? as usize, word(60, 2)? as usize);
    let mut flat = vec![0; LOADER_SIZE];
    for header in (0..nr).map(|n| table + 64 * n) {
        const PROGBITS: u64 = 1;
        const ALLOCATED: u64 = 2;
        let (kind, flags, address) = (word(header + 4, 4)?, word(header + 8, 8)?, word(header + 16, 8)?);
        let (offset, len) = (word(header + 24, 8)? as usize, word(header + 32, 8)? as usize);
        if kind == PROGBITS && flags & ALLOCATED != 0 {
            let at = address.checked_sub(LOAD_ADDRESS)? as usize;
            flat.get_mut(at..at + len)?.copy_from_slice(elf.get(offset..offset + len)?);
        }
    }
    Some(flat)
}
