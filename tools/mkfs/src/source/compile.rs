//! C programs compiled on the host, statically unless the recipe says otherwise.
use crate::recipe::{Compile, Recipe};
use crate::source::inline::Inline;
use crate::tree::item::Source;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;
use vfs::TimeSpec;

/// Compiles `program` in `folder` and returns it as a source; its time is `time`, so that the image does not depend
/// on when it was compiled.
///
/// # Errors
/// The compiler's message.
pub fn compile(recipe: &Recipe, program: &Compile, folder: &Path, time: TimeSpec) -> Result<Box<dyn Source>> {
    std::fs::create_dir_all(folder)?;
    let output = folder.join("program");
    let source = recipe.host_path(program.source.get_ref());
    let compiler = &program.compiler;
    // Options after the source: libraries among them must follow who needs them.
    let result = Command::new(compiler)
        .arg("-o")
        .arg(&output)
        .arg(&source)
        .args(&program.flags)
        .output()
        .with_context(|| format!("the compiler {compiler}"))?;
    if !result.status.success() {
        bail!("{compiler} on {}: {}", source.display(), String::from_utf8_lossy(&result.stderr).trim());
    }
    let mut file = Inline::new(time);
    file.file(program.target.get_ref(), 0o755, (0, 0), &std::fs::read(&output)?);
    Ok(Box::new(file))
}
