//! Examples below the help of each command.
use clap::Command;

/// Commands by their words, each with examples: the command without `zeo`, and what it does.
const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "build",
        &[
            ("build images/sqlite -o db.img", "an image of the recipe"),
            ("build my-service --size 8G --seed 7", "the same bytes each time"),
        ],
    ),
    ("init", &[("init my-service", "writes my-service/image.toml, commented")]),
    (
        "run",
        &[
            ("run images/sqlite", "builds and boots the recipe"),
            ("run images/busybox -m 256M -- /bin/ls -l /", "another program of the image"),
            ("run a.img,b.img,c.img", "a pool on three disks"),
        ],
    ),
    ("image ls", &[("image ls -l db.img /etc", "names with attributes")]),
    ("image tree", &[("image tree -L 2 db.img", "two levels of the root file system")]),
    ("image stat", &[("image stat db.img /etc/passwd", "all attributes of a file")]),
    ("image cat", &[("image cat -d home@monday db.img /notes.txt", "a file of a snapshot")]),
    (
        "image cp",
        &[
            ("image cp -r db.img :/etc etc-of-db", "out of the image"),
            ("image cp -r db.img conf :/etc/conf", "into it"),
        ],
    ),
    (
        "image put",
        &[
            ("image put db.img notes.txt /notes.txt", "one file"),
            ("image put --mode 755 db.img - /bin/run", "of standard input"),
        ],
    ),
    ("image mkdir", &[("image mkdir -p db.img /srv/data/new", "with its parents")]),
    ("image rm", &[("image rm -r db.img /tmp/old", "a directory with all below it")]),
    ("image info", &[("image info --json db.img", "for programs")]),
    ("image verify", &[("image verify a.img,b.img", "a pool on two files")]),
    ("image manifest", &[("image manifest --sha256 db.img", "to compare with sha256sum -c")]),
    (
        "pool add",
        &[
            ("pool add a.img,b.img mirror c.img d.img --size 1G", "a second mirror, on new files"),
            ("pool add a.img,b.img log fast.img", "a log device"),
            ("pool add a.img,b.img spare s.img", "a hot spare"),
        ],
    ),
    ("pool attach", &[("pool attach a.img a.img b.img", "makes a mirror of the disk a.img")]),
    (
        "pool checkpoint",
        &[
            ("pool checkpoint a.img", "keeps the present state"),
            ("pool checkpoint --rewind a.img", "goes back to it"),
            ("pool checkpoint -d a.img", "gives it up"),
        ],
    ),
    ("pool clear", &[("pool clear a.img,b.img", "all devices"), ("pool clear a.img,b.img b.img", "one")]),
    (
        "pool create",
        &[
            ("pool create tank raidz2 a.img b.img c.img d.img --size 1G", "on files that are made"),
            (
                "pool create -o ashift=12 -O compression=lz4 tank mirror a.img b.img log c.img",
                "with properties and a log",
            ),
            ("pool create -n tank mirror a.img b.img", "only shows it"),
        ],
    ),
    ("pool detach", &[("pool detach a.img,b.img b.img", "the mirror loses b.img")]),
    ("pool events", &[("pool events a.img,b.img", "bad copies, repairs, lost devices")]),
    (
        "pool get",
        &[
            ("pool get a.img", "all properties and features"),
            ("pool get -Hp -o value a.img size", "a number for scripts"),
        ],
    ),
    (
        "pool history",
        &[("pool history a.img", "commands"), ("pool history -i a.img", "and what the pool did by itself")],
    ),
    (
        "pool import",
        &[
            ("pool import a.img", "replays the intent logs and closes the pool"),
            ("pool import -f a.img", "of a machine that is gone"),
        ],
    ),
    (
        "pool initialize",
        &[("pool initialize a.img", "all free space"), ("pool initialize -c a.img", "gives it up")],
    ),
    ("pool iostat", &[("pool iostat -v a.img,b.img", "each device")]),
    (
        "pool list",
        &[
            ("pool list a.img,b.img data.img", "two pools"),
            ("pool list -Hp -o name,free a.img", "for scripts"),
        ],
    ),
    ("pool offline", &[("pool offline a.img,b.img b.img", "goes on with a.img")]),
    (
        "pool online",
        &[
            ("pool online a.img,b.img b.img", "and brings it up to date"),
            ("pool online -e a.img a.img", "after the file grew"),
        ],
    ),
    (
        "pool remove",
        &[
            ("pool remove a.img,b.img,log.img log.img", "a log device"),
            ("pool remove -m a.img,b.img log.img", "one that is lost"),
        ],
    ),
    (
        "pool replace",
        &[
            ("pool replace a.img,b.img b.img c.img", "by a new file"),
            ("pool replace a.img b.img", "by a new file of the same name"),
        ],
    ),
    ("pool resilver", &[("pool resilver a.img,b.img", "devices that missed writes")]),
    (
        "pool scrub",
        &[
            ("pool scrub a.img,b.img", "waits for the end"),
            ("pool scrub -p a.img,b.img", "pauses what is under way"),
        ],
    ),
    (
        "pool set",
        &[
            ("pool set failmode=continue a.img", "for when devices fail"),
            ("pool set autotrim=on a.img", "discards what is freed"),
        ],
    ),
    (
        "pool split",
        &[
            ("pool split a.img,b.img copy", "b.img becomes the pool copy"),
            ("pool split -n a.img,b.img copy", "only shows it"),
        ],
    ),
    (
        "pool status",
        &[
            ("pool status -v a.img,b.img", "with damaged files"),
            ("pool status -x a.img,b.img data.img", "only what is not well"),
        ],
    ),
    ("pool trim", &[("pool trim a.img", "the file gives its free blocks back to the host")]),
    (
        "send",
        &[
            ("send a.img home@monday > home.stream", "everything"),
            ("send -i @monday a.img home@tuesday | ssh host zeo receive b.img home", "the difference"),
            ("send -R a.img tank@monday -o all.stream", "all datasets, snapshots, properties"),
        ],
    ),
    (
        "receive",
        &[
            ("receive b.img home < home.stream", "makes home and its snapshot"),
            ("receive -s -F b.img home -f part.stream", "resumable, rolling back first"),
            ("receive -A b.img home", "gives up an interrupted one"),
        ],
    ),
    ("stream info", &[("stream info -v home.stream", "every record")]),
    ("stream token", &[("stream token 1-e604ea4bf-e0-789c63a2", "what it would go on with")]),
    (
        "create",
        &[
            ("create a.img home", "tank/home, if the pool is tank"),
            ("create -p -o quota=10G a.img srv/www/logs", "with missing parents"),
        ],
    ),
    (
        "list",
        &[
            ("list a.img", "all datasets"),
            ("list -r -t all -o name,used,refer a.img home", "with snapshots and bookmarks"),
            ("list -Hp -s used a.img", "for scripts, by size"),
        ],
    ),
    (
        "get",
        &[
            ("get a.img all home", "everything"),
            ("get -r -s local a.img compression,quota", "what was set, everywhere"),
        ],
    ),
    (
        "set",
        &[
            ("set a.img compression=lz4 atime=off home", "two properties"),
            ("set a.img org.example:owner=me home", "one of your own"),
        ],
    ),
    ("inherit", &[("inherit -r a.img compression home", "here and below")]),
    (
        "snap create",
        &[
            ("snap create a.img home@monday srv@monday", "both of the same moment"),
            ("snap create -r a.img @monday", "of everything"),
        ],
    ),
    ("snap list", &[("snap list a.img home", "of one dataset")]),
    (
        "snap destroy",
        &[
            ("snap destroy a.img home@monday", "one"),
            ("snap destroy -nv a.img home@a%c", "would destroy a to c"),
        ],
    ),
    ("snap rename", &[("snap rename -r a.img @monday @week12", "below, too")]),
    ("snap rollback", &[("snap rollback -r a.img home@monday", "newer snapshots go")]),
    (
        "snap diff",
        &[
            ("snap diff a.img home@monday home@tuesday", "between two"),
            ("snap diff -FH a.img home@monday", "since then, for scripts"),
        ],
    ),
    ("clone", &[("clone a.img home@monday attempt", "shares all blocks with the snapshot")]),
    ("promote", &[("promote a.img attempt", "now home depends on attempt")]),
    (
        "rollback",
        &[
            ("rollback a.img home@tuesday", "to the newest snapshot"),
            ("rollback -r a.img home@monday", "newer ones go"),
        ],
    ),
    (
        "rename",
        &[
            ("rename a.img home people", "with all below"),
            ("rename a.img home@monday home@first", "a snapshot"),
        ],
    ),
    (
        "destroy",
        &[
            ("destroy -r a.img home", "with snapshots and all below"),
            ("destroy -nv a.img home@%monday", "would destroy all up to monday"),
        ],
    ),
    ("hold", &[("hold -r a.img backup home@monday", "no destroy until it is released")]),
    ("release", &[("release -r a.img backup home@monday", "and now it may go")]),
    ("holds", &[("holds -r a.img home@monday", "here and below")]),
    (
        "userspace",
        &[("userspace a.img home", "what each user uses"), ("userspace -Hp a.img home", "for scripts")],
    ),
    ("groupspace", &[("groupspace a.img home", "what each group uses")]),
    ("projectspace", &[("projectspace a.img home", "what each project uses")]),
    ("bookmark", &[("bookmark a.img home@monday #monday", "a base for streams that takes no space")]),
    ("bench boot", &[("bench boot --runs 9", "the median counts")]),
    ("bench memory", &[("bench memory", "")]),
    ("bench yardstick", &[("bench yardstick --json", "for programs")]),
    ("bench scrub", &[("bench scrub --size 1G", "")]),
    (
        "bench fsync",
        &[("bench fsync --json", "on a simulated disk"), ("bench fsync --guest --smp 4", "in the guest")],
    ),
    ("bench build", &[("bench build --tree /usr/share/doc --runs 5", "")]),
];

/// Adds the examples to a command and all below it.
pub fn add(command: Command) -> Command {
    below(command, "")
}

fn below(command: Command, path: &str) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let command = names.iter().fold(command, |command, name| {
        let path = if path.is_empty() { name.clone() } else { format!("{path} {name}") };
        command.mut_subcommand(name, |sub| below(sub, &path))
    });
    match EXAMPLES.iter().find(|(of, _)| *of == path) {
        Some((_, examples)) => command.after_help(text(examples)),
        None => command,
    }
}

fn text(examples: &[(&str, &str)]) -> String {
    let width = examples.iter().map(|(command, _)| command.len()).max().unwrap_or(0).min(64);
    let line = |(command, what): &(&str, &str)| {
        let shown = format!("  zeo {command:<width$}  {what}");
        shown.trim_end().to_owned()
    };
    format!("Examples:\n{}", examples.iter().map(line).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::super::Cli;
    use super::*;
    use clap::{CommandFactory, Parser};

    fn leaves(command: &Command, path: &str, found: &mut Vec<String>) {
        if !command.has_subcommands() {
            found.push(path.to_owned());
        }
        for sub in command.get_subcommands() {
            let name = sub.get_name();
            let path = if path.is_empty() { name.to_owned() } else { format!("{path} {name}") };
            leaves(sub, &path, found);
        }
    }

    #[test]
    fn each_command_has_examples_that_are_understood() {
        let mut commands = Vec::new();
        leaves(&Cli::command(), "", &mut commands);
        for command in &commands {
            let own = EXAMPLES.iter().find(|(of, _)| of == command);
            let (_, examples) = own.unwrap_or_else(|| panic!("{command} has no example"));
            for (example, _) in *examples {
                assert!(example.starts_with(command.as_str()), "{example} is no example of {command}");
                let words = example.split_whitespace().take_while(|word| !matches!(*word, "<" | ">" | "|"));
                if let Err(e) = Cli::try_parse_from(["zeo"].into_iter().chain(words)) {
                    panic!("{example}: {e}");
                }
            }
        }
        let stale = EXAMPLES.iter().find(|(of, _)| !commands.iter().any(|command| command == of));
        assert_eq!(stale.map(|(of, _)| of), None, "an example of no command");
    }
}
