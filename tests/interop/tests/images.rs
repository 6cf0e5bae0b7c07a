//! Images built from recipes and changed on the host, judged by OpenZFS and GRUB.
use interop_tests::Judged;
use mkfs::build::{Options, Progress, build};
use mkfs::image::{Access, Image};
use mkfs::layout::Layout;
use mkfs::recipe::Recipe;
use mkfs::tree::edit::{Depth, Parents, make_directory, remove};
use mkfs::tree::import::Totals;
use std::path::{Path, PathBuf};

struct Silent;

impl Progress for Silent {
    fn phase(&mut self, _text: &str) {}
    fn copied(&mut self, _from: &str, _totals: Totals) {}
}

fn image(folder: &Path, recipe: &str) -> PathBuf {
    let tree = folder.join("tree");
    std::fs::create_dir_all(tree.join("sub")).expect("mkdir");
    std::fs::write(tree.join("large"), vec![0x5a; 700_001]).expect("write");
    for nr in 0..300 {
        std::fs::write(tree.join(format!("sub/file{nr}")), format!("{nr}\n").repeat(nr)).expect("write");
    }
    let recipe = Recipe::parse(recipe, "test", folder.to_owned()).expect("good");
    let output = folder.join("image");
    let options = Options {
        output: output.clone(),
        layout: Layout::Pool,
        size: None,
        seed: Some(1),
        cache: folder.join("cache"),
        boot: None,
    };
    build(&recipe, &options, &mut Silent).expect("built");
    output
}

#[test]
fn a_built_image_is_clean_and_stays_so_when_it_is_changed() {
    let dir = tempfile::tempdir().expect("directory");
    let recipe = "[pool]\nname = \"built\"\nsize = \"128M\"\n[[trees]]\nsource = \"tree\"\ntarget = \"/tree\"\n\
        [[datasets]]\nname = \"data/db\"\npreset = \"sqlite\"\n";
    let path = image(dir.path(), recipe);
    Judged::copy(&[&path], "built").assert_clean();
    let image = Image::open(&path.to_string_lossy(), Access::Write).expect("opened");
    let file_system = image.file_system(None).expect("mounted");
    let root = file_system.root().expect("root");
    remove(&root, b"/tree/sub", Depth::All).expect("removed");
    make_directory(&root, b"/a/b/c", Parents::Make).expect("made");
    drop((root, file_system));
    image.close().expect("closed");
    let judged = Judged::copy(&[&path], "built");
    judged.assert_clean();
    judged.assert_openzfs_writes();
}

#[test]
fn grub_reads_an_image_built_for_it() {
    let dir = tempfile::tempdir().expect("directory");
    let recipe = "[pool]\nname = \"built\"\nsize = \"128M\"\ncompatibility = \"grub2\"\n\
        [[trees]]\nsource = \"tree\"\ntarget = \"/tree\"\n";
    let path = image(dir.path(), recipe);
    let judged = Judged::copy(&[&path], "built");
    judged.assert_clean();
    assert!(judged.grub_cat("", "/tree/large") == vec![0x5a; 700_001]);
    assert_eq!(judged.grub_cat("", "/tree/sub/file3"), b"3\n3\n3\n");
}
