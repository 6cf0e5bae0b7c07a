//! Linker arguments of the kernel binary: the only place where they can be given for one package.
use std::env::var;

fn main() {
    let Ok(dir) = var("CARGO_MANIFEST_DIR") else { return };
    println!("cargo:rerun-if-changed=linker.ld");
    let script = format!("-Wl,-T,{dir}/linker.ld");
    let args = [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        &script,
        "-Wl,--gc-sections",
        "-Wl,--build-id=none",
        "-Wl,-z,max-page-size=0x1000",
        "-Wl,-z,norelro",
        "-Wl,-z,noexecstack",
    ];
    for arg in args {
        println!("cargo:rustc-link-arg-bins={arg}");
    }
}
