//! Every osquery source of a built-in artifact fits the tables of its platform. SQLite itself reads
//! it against empty tables, so that each table and column exists, the columns are those declared,
//! and no table is read without the constraint it needs.

mod check;
mod empty;
mod facts;

use std::collections::BTreeMap;

use check::Checker;
use muster_artifact::{Artifact, Platform, builtin, parse};
use muster_types::AgentKind;

fn for_osquery(platform: Platform) -> impl Iterator<Item = &'static Artifact> {
    builtin().iter().filter(move |artifact| {
        artifact.sources.contains_key(&AgentKind::Osquery) && artifact.is_for(platform.as_str())
    })
}

#[test]
fn sources_fit_the_tables_of_their_platforms() {
    let mut problems = Vec::new();
    for platform in Platform::ALL {
        let checker = Checker::new(platform).unwrap();
        for artifact in for_osquery(platform) {
            let of = checker.problems(artifact);
            problems.extend(of.into_iter().map(|problem| format!("{}: {problem}", artifact.name)));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn each_platform_has_what_responders_expect() {
    for (platform, least) in
        [(Platform::Windows, 30), (Platform::Darwin, 15), (Platform::Linux, 25)]
    {
        let count = for_osquery(platform).count();
        assert!(count >= least, "{}: {count} of {least}", platform.as_str());
    }
}

#[test]
fn the_same_artifact_has_the_same_columns_on_every_platform() {
    let mut first: BTreeMap<&str, &Artifact> = BTreeMap::new();
    for artifact in builtin() {
        let (_, subject) = artifact.name.split_once('.').unwrap();
        let known = *first.entry(subject).or_insert(artifact);
        let (a, b) = (known.column_decls(), artifact.column_decls());
        assert_eq!(a, b, "{} and {}", known.name, artifact.name);
    }
}

fn problems(columns: &str, query: &str) -> Vec<String> {
    let artifact = parse(&format!(
        "name: linux.test\ntitle: t\nplatforms: [linux]\n\
         parameters: [{{name: wanted, type: text}}]\n\
         columns: {columns}\nsources: {{osquery: {{query: \"{query} -- :wanted\"}}}}"
    ));
    Checker::new(Platform::Linux).unwrap().problems(&artifact.unwrap())
}

#[test]
fn faults_are_found() {
    let path = "[{name: path, type: text}]";
    let one = |columns, query| {
        let mut found = problems(columns, query);
        // The comment is no use of a parameter.
        assert!(found.remove(0).contains("wanted is not used"));
        found.join("; ")
    };
    assert_eq!(one(path, "SELECT path FROM file WHERE path LIKE '/tmp/%'"), "");
    assert!(one(path, "SELECT path FROM flie").contains("no such table: flie"));
    assert!(one(path, "SELECT paht AS path FROM processes").contains("no such column: paht"));
    assert!(one(path, "SELECT path, pid FROM processes").contains("gives path pid; declares path"));
    assert!(one(path, "SELECT pid AS path FROM processes").contains("path is BIGINT"));
    assert!(one(path, "SELECT path FROM file").contains("unconstrained"));
    assert!(one(path, "SELECT path FROM file WHERE path NOT LIKE '/tmp/%'").contains("uncons"));
    let hash = "SELECT h.path FROM processes p LEFT JOIN hash h ON h.sha256 = p.name";
    assert!(one(path, hash).contains("SCAN h VIRTUAL TABLE INDEX 0:unconstrained"));
    // One branch of an OR without it is enough to read everything.
    let either = "SELECT path FROM file WHERE path = '/a' OR size > 0";
    assert!(one(path, either).contains("unconstrained"));
}
