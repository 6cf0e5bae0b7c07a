//! Whole builds: what is in an image afterwards, and that the same inputs give the same bytes.
use mkfs::build::{Options, Progress, build};
use mkfs::image::{Access, Image};
use mkfs::info;
use mkfs::layout::Layout;
use mkfs::recipe::Recipe;
use mkfs::tree::edit::{Depth, Parents, make_directory, remove};
use mkfs::tree::import::Totals;
use mkfs::tree::manifest::{self, List};
use mkfs::tree::walk::Covered;
use std::path::Path;

struct Silent;

impl Progress for Silent {
    fn phase(&mut self, _text: &str) {}
    fn copied(&mut self, _from: &str, _totals: Totals) {}
}

const RECIPE: &str = r#"
program = "/bin/x"
args = ["a b"]
[pool]
name = "built"
size = "256M"
properties = { compression = "lz4" }
[[trees]]
source = "tree"
target = "/srv"
[[text]]
target = "/data/db/motd"
content = "hello\n"
mode = "0600"
uid = 7
[[symlinks]]
target = "/bin/x"
to = "/srv/program"
[[datasets]]
name = "data/db"
preset = "sqlite"
"#;

fn make(folder: &Path, output: &str, layout: Layout, seed: u64) -> Image {
    let tree = folder.join("tree");
    if !tree.exists() {
        std::fs::create_dir_all(tree.join("sub")).expect("mkdir");
        std::fs::write(tree.join("program"), vec![3; 300_000]).expect("write");
        std::fs::write(tree.join("sub/empty"), "").expect("write");
    }
    let recipe = Recipe::parse(RECIPE, "test", folder.to_owned()).expect("good");
    let options = Options {
        output: folder.join(output),
        layout,
        size: None,
        seed: Some(seed),
        cache: folder.join("cache"),
        boot: None,
    };
    let built = build(&recipe, &options, &mut Silent).expect("built");
    assert_eq!(built.totals.files, 6);
    open(folder, output, Access::Read)
}

fn open(folder: &Path, name: &str, access: Access) -> Image {
    Image::open(&folder.join(name).to_string_lossy(), access).expect("opened")
}

fn list(image: &Image, dataset: Option<&str>, which: List) -> String {
    let root = image.file_system(dataset).expect("mounted").root().expect("root");
    let mut out = Vec::new();
    manifest::write(&root, &Covered::new(), which, &mut out).expect("manifest");
    String::from_utf8(out).expect("text")
}

#[test]
fn an_image_holds_what_the_recipe_says() {
    let dir = tempfile::tempdir().expect("directory");
    let image = make(dir.path(), "disk", Layout::Disk, 1);
    let root = list(&image, None, List::Meta);
    for line in [
        "f 644 0 0 1 ",
        " .zeolite/config\n",
        " bin/x -> /srv/program\n",
        " srv/sub/empty\n",
        "d 1777 0 0 - - ",
    ] {
        assert!(root.contains(line), "{line} in {root}");
    }
    assert!(!root.contains("motd"), "it lies on a dataset of its own: {root}");
    assert!(list(&image, Some("data/db"), List::Meta).contains("f 600 7 0 1 6 1735689600.0000000000 motd\n"));
    let facts = info::collect(&image).expect("info");
    let names: Vec<&str> = facts.datasets.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["built", "built/data", "built/data/db"]);
    assert!(info::verify(&image, &mut |_| {}).expect("walked").is_clean());
    image.close().expect("closed");
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let dir = tempfile::tempdir().expect("directory");
    for layout in [Layout::Disk, Layout::Pool] {
        for (name, seed) in [("one", 5), ("two", 5), ("three", 6)] {
            make(dir.path(), name, layout, seed).close().expect("closed");
        }
        let bytes = |name: &str| std::fs::read(dir.path().join(name)).expect("read");
        assert!(bytes("one") == bytes("two"), "{layout:?}");
        assert!(bytes("one") != bytes("three"), "{layout:?}");
    }
}

#[test]
fn an_image_can_be_changed_and_stays_whole() {
    let dir = tempfile::tempdir().expect("directory");
    make(dir.path(), "pool", Layout::Pool, 1).close().expect("closed");
    let image = open(dir.path(), "pool", Access::Write);
    let file_system = image.file_system(None).expect("mounted");
    let root = file_system.root().expect("root");
    make_directory(&root, b"/new/deep", Parents::Make).expect("made");
    remove(&root, b"/srv", Depth::All).expect("removed");
    drop(root);
    file_system.sync().expect("synced");
    drop(file_system);
    image.close().expect("closed");
    let image = open(dir.path(), "pool", Access::Read);
    let names = list(&image, None, List::Meta);
    assert!(names.contains(" new/deep\n") && !names.contains(" srv/sub"), "{names}");
    assert!(info::verify(&image, &mut |_| {}).expect("walked").is_clean());
    image.close().expect("closed");
}

#[test]
fn a_build_that_fails_leaves_what_was_there() {
    let dir = tempfile::tempdir().expect("directory");
    let output = dir.path().join("image");
    std::fs::write(&output, "precious").expect("write");
    let text = "[[trees]]\nsource = \"none\"\ntarget = \"/x\"";
    let recipe = Recipe::parse(text, "test", dir.path().to_owned()).expect("good");
    let options = Options {
        output: output.clone(),
        layout: Layout::Pool,
        size: None,
        seed: Some(1),
        cache: dir.path().join("cache"),
        boot: None,
    };
    assert!(build(&recipe, &options, &mut Silent).is_err());
    assert_eq!(std::fs::read(&output).expect("read"), b"precious");
    assert!(Image::open(&output.to_string_lossy(), Access::Read).is_err(), "no pool");
}

#[test]
fn an_image_in_use_is_not_changed() {
    let dir = tempfile::tempdir().expect("directory");
    make(dir.path(), "pool", Layout::Pool, 1).close().expect("closed");
    let first = open(dir.path(), "pool", Access::Write);
    let error = Image::open(&dir.path().join("pool").to_string_lossy(), Access::Write).expect_err("in use");
    assert!(format!("{error:#}").contains("in use"), "{error:#}");
    first.close().expect("closed");
}

#[test]
fn a_recipe_may_span_several_disks() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "program = \"/x\"\n[pool]\nsize = \"256M\"\nvdevs = \"raidz a b c log fast spare s\"\n\
                [[text]]\ntarget = \"/motd\"\ncontent = \"hello\"\n";
    let recipe = Recipe::parse(text, "test", folder.path().to_owned()).expect("good");
    let options = Options {
        output: folder.path().join("disk.img"),
        layout: Layout::Disk,
        size: None,
        seed: Some(1),
        cache: folder.path().join("cache"),
        boot: None,
    };
    let built = build(&recipe, &options, &mut Silent).expect("built");
    let names: Vec<_> = built.disks.iter().filter_map(|d| d.file_name()?.to_str()).collect();
    assert_eq!(names, ["disk.img", "disk.b.img", "disk.c.img", "disk.fast.img", "disk.s.img"]);
    let all: Vec<_> = built.disks.iter().map(|d| d.display().to_string()).collect();
    let image = Image::open(&all.join(","), Access::Read).expect("opens");
    let kinds: Vec<_> = image.spa().vdevs().into_iter().map(|v| (v.kind, v.children.len())).collect();
    assert_eq!(kinds, [("raidz".to_owned(), 3), ("disk".to_owned(), 0)]);
    assert_eq!(image.spa().vdev_tree().spares.len(), 1);
    let root = image.file_system(None).expect("mounts").root().expect("a root");
    assert!(root.lookup(b"motd").is_ok());
    image.close().expect("closes");
    let two = format!("{},{},{}", all[0], all[2], all[3]);
    Image::open(&two, Access::Read).expect("without one of the raidz").close().expect("closes");
}
