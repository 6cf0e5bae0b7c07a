//! Files, directories and links spelled out: in a recipe, or because every image has them.
use crate::recipe::{Recipe, parse_mode};
use crate::tree::item::{Emit, Event, Item, Kind, Meta, Source};
use anyhow::Result;
use vfs::TimeSpec;

/// A list of items with their content.
#[derive(Debug, Default)]
pub struct Inline {
    items: Vec<(Item, Vec<u8>)>,
    time: TimeSpec,
}

impl Inline {
    /// Empty; everything added is as old as `time`.
    pub fn new(time: TimeSpec) -> Self {
        Self { items: Vec::new(), time }
    }

    /// Adds a directory.
    pub fn directory(&mut self, path: &str, perm: u32) {
        self.add(path, Kind::Directory, perm, (0, 0), Vec::new());
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, to: &str) {
        self.add(path, Kind::Symlink(to.as_bytes().to_vec()), 0o777, (0, 0), Vec::new());
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, perm: u32, owner: (u32, u32), content: &[u8]) {
        let kind = Kind::Regular { size: content.len() as u64 };
        self.add(path, kind, perm, owner, content.to_vec());
    }

    fn add(&mut self, path: &str, kind: Kind, perm: u32, owner: (u32, u32), content: Vec<u8>) {
        let meta = Meta { uid: owner.0, gid: owner.1, ..Meta::root(perm, self.time) };
        self.items.push((Item { path: path.as_bytes().to_vec(), kind, meta }, content));
    }
}

impl Source for Inline {
    fn produce(&mut self, emit: Emit<'_>) -> Result<()> {
        for (item, content) in &self.items {
            emit(Event::Item(item.clone()))?;
            if !content.is_empty() {
                emit(Event::Data { offset: 0, bytes: content.clone() })?;
            }
        }
        Ok(())
    }

    fn describe(&self) -> String {
        String::from("image.toml")
    }
}

/// What every image has: mount points, a directory for temporary files, the names of root.
pub fn skeleton(has_packages: bool, time: TimeSpec) -> Inline {
    let mut all = Inline::new(time);
    all.directory("/", 0o755);
    for (path, perm) in
        [("/dev", 0o755), ("/proc", 0o555), ("/sys", 0o555), ("/tmp", 0o1777), ("/root", 0o700)]
    {
        all.directory(path, perm);
    }
    all.directory("/etc", 0o755);
    all.file(
        "/etc/passwd",
        0o644,
        (0, 0),
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    );
    all.file("/etc/group", 0o644, (0, 0), b"root:x:0:\nnogroup:x:65534:\n");
    if has_packages {
        // Packages expect a merged /usr, which no package makes.
        all.directory("/usr", 0o755);
        for name in ["bin", "sbin", "lib", "lib64"] {
            all.directory(&format!("/usr/{name}"), 0o755);
            all.symlink(&format!("/{name}"), &format!("usr/{name}"));
        }
    }
    all
}

/// What the recipe spells out.
pub fn of_recipe(recipe: &Recipe, time: TimeSpec) -> Inline {
    let mut all = Inline::new(time);
    let perm = |mode: &Option<toml::Spanned<String>>, default| {
        mode.as_ref().and_then(|m| parse_mode(m.get_ref())).unwrap_or(default)
    };
    for d in &recipe.directories {
        all.add(d.target.get_ref(), Kind::Directory, perm(&d.mode, 0o755), (d.uid, d.gid), Vec::new());
    }
    for t in &recipe.text {
        all.file(t.target.get_ref(), perm(&t.mode, 0o644), (t.uid, t.gid), t.content.as_bytes());
    }
    for s in &recipe.symlinks {
        all.symlink(s.target.get_ref(), &s.to);
    }
    all
}
