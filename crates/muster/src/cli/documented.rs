//! `docs/src/cli.md` names every command and every flag.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Arg, Command, CommandFactory};

use super::args::Args;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/cli.md");

/// What the page writes as `scope`.
const SCOPE: &str = "--endpoint --label --exclude-label --where";

/// The commands of the page, each with the cell of its flags.
fn told(page: &str) -> BTreeMap<String, String> {
    let mut told = BTreeMap::<String, String>::new();
    let mut before = String::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        // A bar within a cell is written `\|`.
        let line = line.replace("\\|", "/");
        let mut cells = line.split('|').skip(1);
        let (commands, flags) = (cells.next().unwrap_or(""), cells.next().unwrap_or(""));
        let mut flags = flags.to_owned();
        if flags.contains("the same") {
            flags += &before;
        }
        if flags.split_whitespace().any(|word| word == "scope") {
            flags += SCOPE;
        }
        if let Some((_, other)) = flags.split_once("as `")
            && let Some(other) = other.split('`').next().and_then(|other| told.get(other))
        {
            flags += other;
        }
        for command in commands.split('`').skip(1).step_by(2) {
            let is_name = |word: &&str| word.starts_with(|first: char| first.is_ascii_lowercase());
            let words: Vec<&str> = command.split_whitespace().take_while(is_name).collect();
            told.entry(words.join(" ")).or_default().push_str(&flags);
        }
        before = flags;
    }
    told
}

/// Whether a cell names a flag as `--file` or `-f`.
fn names(flags: &str, flag: &Arg) -> bool {
    let long = flag.get_long().map(|long| format!("--{long}"));
    let short = flag.get_short().map(|short| format!("-{short}"));
    let is_part = |c: char| c == '-' || c.is_ascii_alphanumeric();
    let mut words = flags.split(|c: char| !is_part(c));
    words.any(|word| [&long, &short].into_iter().flatten().any(|name| name == word))
}

fn missing(command: &Command, path: &str, told: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let path = format!("{path} {}", sub.get_name()).trim_start().to_owned();
        // One row stands for all kinds of sinks.
        if path == "sink add" {
            found.extend((!told.contains_key(&path)).then_some(path));
            continue;
        }
        found.extend(missing(sub, &path, told));
        if sub.is_subcommand_required_set() {
            continue;
        }
        let Some(flags) = told.get(&path) else {
            found.insert(path);
            continue;
        };
        let all = sub.get_arguments().filter(|arg| !arg.is_hide_set() && !arg.is_global_set());
        for flag in all.filter(|flag| flag.get_long().is_some()) {
            if !names(flags, flag) {
                found.insert(format!("{path} --{}", flag.get_long().unwrap_or_default()));
            }
        }
    }
    found
}

#[test]
fn every_command_and_flag_is_on_the_page() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let missing = missing(&Args::command(), "", &told(&page));
    assert!(missing.is_empty(), "docs/src/cli.md does not name:\n{missing:#?}");
}

#[test]
fn no_name_is_given_twice() {
    Args::command().debug_assert();
}

#[test]
fn rows_are_read_as_people_read_them() {
    let page = "
| `a b NAME`, `a c` | `-o X` · scope | |
| `a d [WORD]` | the same, and `--two a\\|b` | |
| `e DIR` | as `a b` | |
";
    let told = told(page);
    assert_eq!(told.keys().collect::<Vec<_>>(), ["a b", "a c", "a d", "e"]);
    let named = |path: &str, long| names(&told[path], &Arg::new(long).long(long));
    assert!(names(&told["a c"], &Arg::new("one").long("one").short('o')));
    assert!(named("a d", "two") && named("a b", "exclude-label") && named("e", "where"));
    assert!(!named("a b", "exclude") && !named("a b", "two"));
}
