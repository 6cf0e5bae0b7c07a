//! Recipes good and bad.
use super::*;

fn parse(text: &str) -> Result<Recipe, Mistake> {
    Recipe::parse(text, "image.toml", PathBuf::from("/recipes/x"))
}

fn mistake(text: &str) -> Mistake {
    parse(text).expect_err(text)
}

#[test]
fn a_full_recipe_parses() {
    let recipe = parse(
        r#"
        program = "/bin/x"
        args = ["a", "b c"]
        env = { A = "1" }
        packages = ["sqlite3", "libc6"]
        elf = ["/bin/ls", { source = "build/y", target = "/bin/y" }]
        [machine]
        memory = "1G"
        cpus = 4
        [pool]
        size = 2147483648
        compatibility = "grub2"
        properties = { compression = "lz4", atime = false }
        [[files]]
        source = "a"
        target = "/a"
        mode = "0600"
        [[datasets]]
        name = "data/db"
        preset = "mysql"
        properties = { recordsize = "64K", "org.example:owner" = "me" }
        "#,
    )
    .expect("good");
    assert_eq!((recipe.size(), recipe.memory(), recipe.cpus()), (Size(2 << 30), Size(1 << 30), 4));
    assert_eq!(recipe.host_path("a"), PathBuf::from("/recipes/x/a"));
    let dataset = &recipe.datasets[0];
    assert_eq!(dataset.mountpoint(), "/data/db");
    let properties = dataset.all_properties();
    assert!(properties.contains(&("recordsize".into(), "64K".into())), "its own win over the preset's");
    assert!(properties.contains(&("atime".into(), "off".into())));
    assert_eq!(recipe.pool.all_properties()[0], ("atime".into(), "off".into()));
}

#[test]
fn an_empty_recipe_has_defaults() {
    let recipe = parse("").expect("good");
    assert_eq!((recipe.pool_name(), recipe.ashift(), recipe.cpus()), ("zeolite", 12, 1));
}

#[test]
fn mistakes_name_line_and_hint() {
    for (text, line, words) in [
        ("\nprogramm = 1", 2, "did you mean 'program'"),
        ("program = \"bin/x\"", 1, "write \"/bin/x\""),
        ("program = \"/a/../b\"", 1, "without '..'"),
        ("[machine]\nmemory = \"1M\"", 2, "at least 16M"),
        ("[machine]\n\ncpus = 65", 3, "1 to 64"),
        ("[machine]\nmemory = \"lots\"", 2, "not a size"),
        ("[pool]\nname = \"mirror0\"", 2, "cannot name a pool"),
        ("[pool]\nashift = 20", 2, "16 is the largest"),
        ("[pool]\nsize = \"1M\"", 2, "at least 64M"),
        ("[pool]\nvdevs = \"mirror a\"", 2, "at least 2 devices"),
        ("[pool]\nvdevs = \"mirror a /dev/sdb\"", 2, "cannot name a disk"),
        ("[pool]\nvdevs = \"log a mirror b c\"", 2, "it boots"),
        ("[pool]\ncompatibility = \"grub3\"", 2, "grub2"),
        ("[pool]\nproperties = { recordsize = \"100\" }", 2, "recordsize"),
        ("[pool]\nproperties = { colour = \"red\" }", 2, "colour"),
        ("packages = [\"Foo Bar\"]", 1, "Debian package name"),
        ("[[files]]\nsource = \"a\"\ntarget = \"/a\"\nmode = \"rwx\"", 4, "octal"),
        ("[[files]]\nsource = \"a\"", 1, "target"),
        ("[[datasets]]\nname = \"a//b\"", 2, "cannot name a dataset"),
        ("[[datasets]]\nname = \"a\"\npreset = \"oracle\"", 3, "sqlite"),
        ("[[datasets]]\nname = \"a\"\n[[datasets]]\nname = \"b\"\nmountpoint = \"/a/\"", 4, "own mountpoint"),
        ("elf = [\"ls\"]", 1, "write \"/ls\""),
        ("args = [\n1]", 2, "string"),
        ("program = ", 1, ""),
    ] {
        let mistake = mistake(text);
        assert_eq!(mistake.line, line, "{mistake}");
        let printed = mistake.to_string();
        assert!(printed.starts_with(&format!("image.toml:{line}:")), "{printed}");
        assert!(printed.contains(words), "{printed}");
    }
}

#[test]
fn the_template_and_the_schema_match_the_parser() {
    let recipe = parse(TEMPLATE).expect("the template is a good recipe");
    assert_eq!(recipe.compile.len(), 1);
    let schema: serde_json::Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    let names = |v: &serde_json::Value| -> Vec<String> {
        v["properties"].as_object().expect("an object").keys().cloned().collect()
    };
    // What the parser knows is what it lists when it meets an unknown key.
    let known = |text: &str| -> Vec<String> {
        let message = mistake(text).message;
        let mut list: Vec<String> = message.split('`').skip(3).step_by(2).map(String::from).collect();
        list.sort();
        list
    };
    assert_eq!(names(&schema), known("zz = 1"));
    let top = &schema["properties"];
    assert_eq!(names(&top["machine"]), known("[machine]\nzz = 1"));
    assert_eq!(names(&top["pool"]), known("[pool]\nzz = 1"));
    for list in ["compile", "files", "trees", "text", "directories", "symlinks", "datasets"] {
        assert_eq!(names(&top[list]["items"]), known(&format!("[[{list}]]\nzz = 1")), "{list}");
    }
}
