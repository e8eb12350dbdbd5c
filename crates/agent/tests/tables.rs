//! The tables' content, against `/proc` and this process itself.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use muster_agent::query::{Bounds, Engine};
use muster_agent::tables;
use serde_json::{Map, Value, json};

type Row = Map<String, Value>;

struct Answer {
    rows: Vec<Row>,
    error: Option<String>,
    warnings: Vec<String>,
    types: Vec<(String, String)>,
}

fn ask(sql: &str) -> Answer {
    ask_with(sql, &BTreeMap::new())
}

fn ask_with(sql: &str, params: &BTreeMap<String, Value>) -> Answer {
    let engine = Engine::open(tables::all(), None).unwrap();
    let mut rows = Vec::new();
    let bounds = Bounds { rows_max: 1_000_000, bytes_max: 1 << 30 };
    let answer = engine.run(sql, params, bounds, &mut |_, json| {
        rows.extend(serde_json::from_slice::<Vec<Row>>(json).unwrap());
        Ok(())
    });
    let types = answer.columns.iter().map(|c| (c.name.clone(), format!("{:?}", c.kind))).collect();
    assert_eq!(rows.len() as u64, answer.row_count);
    let error = answer.result.err().map(|error| error.to_string());
    Answer { rows, error, warnings: engine.warnings(), types }
}

fn rows(sql: &str) -> Vec<Row> {
    let answer = ask(sql);
    assert_eq!(answer.error, None, "{sql}");
    answer.rows
}

fn error(sql: &str) -> String {
    ask(sql).error.expect("an error")
}

#[test]
fn this_process_is_in_processes_with_typed_columns() {
    let pid = std::process::id();
    let rows = rows(&format!("SELECT * FROM processes WHERE pid = {pid}"));
    let [row] = rows.as_slice() else { panic!("{} rows", rows.len()) };
    assert_eq!(row["pid"], json!(pid));
    assert_eq!(row["path"], json!(std::env::current_exe().unwrap().to_str().unwrap()));
    let arguments: Vec<String> = std::env::args().collect();
    assert_eq!(row["cmdline"], json!(arguments.join(" ")));
    assert_eq!(row["cwd"], json!(std::env::current_dir().unwrap().to_str().unwrap()));
    assert_eq!(row["on_disk"], json!(1));
    assert_eq!(row["parent"], json!(std::os::unix::process::parent_id()));
    assert_eq!(row["uid"], json!(rustix::process::getuid().as_raw()));
    assert!(row["resident_size"].as_i64().unwrap() > 1_000_000);
    assert!(row["threads"].as_i64().unwrap() >= 1);
    let started = row["start_time"].as_i64().unwrap();
    let now = fs::metadata("/proc/self/stat").map(|_| seconds_now()).unwrap();
    assert!((started - now).abs() < 3600, "{started} {now}");
    let keys: Vec<&String> = row.keys().collect();
    assert_eq!(&keys[..4], ["pid", "name", "path", "cmdline"]);
    assert_eq!(keys.len(), 27, "hidden columns are not part of *");
}

fn seconds_now() -> i64 {
    muster_types::Clock::now(&muster_types::SystemClock).seconds()
}

#[test]
fn all_processes_are_there_and_lookups_do_not_scan() {
    let all = rows("SELECT pid FROM processes");
    let listed = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()));
    assert!(all.len().abs_diff(listed.count()) < 30);
    let pid = std::process::id();
    let found = rows(&format!("SELECT pid FROM processes WHERE pid IN ({pid}, 1, -4, 'x', NULL)"));
    assert_eq!(found.len(), 2);
    let joined = rows(&format!(
        "SELECT c.pid, p.pid FROM processes c JOIN processes p ON p.pid = c.parent WHERE c.pid = {pid}"
    ));
    assert_eq!(joined[0]["pid_2"], json!(std::os::unix::process::parent_id()));
}

#[test]
fn a_listening_socket_is_found_with_its_process() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp6 = TcpListener::bind("[::1]:0");
    let port = tcp.local_addr().unwrap().port();
    let pid = std::process::id();
    let found = rows(&format!(
        "SELECT * FROM listening_ports WHERE port = {port} AND protocol = 6 AND family = 2"
    ));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["pid"], json!(pid));
    assert_eq!(found[0]["address"], json!("127.0.0.1"));
    assert_eq!((&found[0]["family"], &found[0]["protocol"]), (&json!(2), &json!(6)));
    if let Ok(tcp6) = tcp6 {
        let port = tcp6.local_addr().unwrap().port();
        let found = rows(&format!(
            "SELECT address FROM listening_ports WHERE port = {port} AND protocol = 6 AND pid = {pid}"
        ));
        assert!(found.iter().any(|row| row["address"] == json!("::1")), "{found:?}");
    }

    let client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let local = client.local_addr().unwrap().port();
    let open = rows(&format!(
        "SELECT * FROM process_open_sockets WHERE pid = {pid} AND local_port = {local}"
    ));
    assert_eq!(open.len(), 1);
    assert_eq!(open[0]["state"], json!("ESTABLISHED"));
    assert_eq!(open[0]["remote_port"], json!(port));

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a socket");
    let _unix = UnixListener::bind(&path).unwrap();
    let path = path.to_str().unwrap();
    let found = rows(&format!("SELECT pid, path FROM listening_ports WHERE path = '{path}'"));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["pid"], json!(pid));
}

#[test]
fn users_know_root_and_other_platforms_columns_are_null() {
    let found = rows("SELECT username, uid, type FROM users WHERE uid = 0");
    assert_eq!(found[0]["username"], json!("root"));
    assert_eq!(found[0]["uid"], json!(0));
    assert_eq!(found[0]["type"], Value::Null);
    let lines = fs::read_to_string("/etc/passwd").unwrap().lines().count();
    assert_eq!(rows("SELECT * FROM users").len(), lines);
}

#[test]
fn the_machine_is_described() {
    let os = rows("SELECT * FROM os_version");
    assert_eq!(os.len(), 1);
    assert_eq!(os[0]["arch"], json!(std::env::consts::ARCH));
    assert!(os[0]["major"].is_i64());
    let system = rows("SELECT * FROM system_info");
    assert_eq!(system.len(), 1);
    let cpus = std::thread::available_parallelism().unwrap().get();
    assert!(system[0]["cpu_logical_cores"].as_u64().unwrap() >= cpus as u64);
    assert!(system[0]["physical_memory"].as_i64().unwrap() > 1 << 26);
    let loopback = rows("SELECT * FROM interface_addresses WHERE address = '127.0.0.1'");
    assert_eq!(loopback[0]["interface"], json!("lo"));
    assert_eq!(loopback[0]["mask"], json!("255.0.0.0"));
    assert_eq!(ask("SELECT * FROM logged_in_users").error, None);
}

#[test]
fn files_by_path_pattern_and_directory() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    fs::write(dir.path().join("a/one"), "muster").unwrap();
    fs::write(dir.path().join("a/b/two"), "").unwrap();
    fs::set_permissions(dir.path().join("a/one"), fs::Permissions::from_mode(0o4751)).unwrap();
    std::os::unix::fs::symlink("one", dir.path().join("a/link")).unwrap();

    let one = rows(&format!("SELECT * FROM file WHERE path = '{root}/a/one'"));
    assert_eq!(one.len(), 1);
    assert_eq!(one[0]["mode"], json!("4751"));
    assert_eq!(one[0]["size"], json!(6));
    assert_eq!(one[0]["type"], json!("regular"));
    assert_eq!(one[0]["filename"], json!("one"));
    assert_eq!(one[0]["directory"], json!(format!("{root}/a")));
    assert!(one[0]["mtime"].as_i64().unwrap() > 1_600_000_000);

    let names = |sql: String| -> Vec<String> {
        rows(&sql).iter().map(|row| row["filename"].as_str().unwrap().to_owned()).collect()
    };
    let listed = names(format!("SELECT * FROM file WHERE directory = '{root}/a' ORDER BY path"));
    assert_eq!(listed, ["b", "link", "one"]);
    assert_eq!(names(format!("SELECT * FROM file WHERE path LIKE '{root}/%'")), ["a"]);
    let deep = names(format!("SELECT * FROM file WHERE path LIKE '{root}/%%' ORDER BY path"));
    assert_eq!(deep, ["a", "b", "two", "link", "one"]);
    let either = names(format!(
        "SELECT * FROM file WHERE (path = '{root}/a/one' OR path LIKE '{root}/a/b/%') \
         AND type = 'regular' ORDER BY path"
    ));
    assert_eq!(either, ["two", "one"]);
    let link = rows(&format!("SELECT * FROM file WHERE path = '{root}/a/link'"));
    assert_eq!(link[0]["symlink"], json!(1));
    assert_eq!(link[0]["symlink_target_path"], json!("one"));
    assert_eq!(names(format!("SELECT * FROM file WHERE path = '{root}/none'")), [""; 0]);
}

#[test]
fn hashes_join_with_files() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    fs::write(dir.path().join("empty"), "").unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();
    let mut params = BTreeMap::new();
    params.insert("path".to_owned(), json!(format!("{root}/%")));
    let found = ask_with(
        "SELECT f.path, f.type, h.md5, h.sha1, h.sha256 FROM file f \
         LEFT JOIN hash h ON h.path = f.path AND f.type = 'regular' WHERE f.path LIKE :path \
         ORDER BY f.path",
        &params,
    );
    assert_eq!(found.error, None);
    assert_eq!(found.warnings, [""; 0]);
    assert_eq!(found.rows.len(), 2);
    assert_eq!(found.rows[0]["sha256"], Value::Null);
    let empty = &found.rows[1];
    assert_eq!(empty["md5"], json!("d41d8cd98f00b204e9800998ecf8427e"));
    assert_eq!(empty["sha1"], json!("da39a3ee5e6b4b0d3255bfef95601890afd80709"));
    let sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(empty["sha256"], json!(sha256));
}

#[test]
fn required_columns_warn() {
    let answer = ask("SELECT * FROM file");
    assert_eq!((answer.rows.len(), answer.error), (0, None));
    let warning = "table file gives no rows unless WHERE constrains path or directory";
    assert_eq!(answer.warnings, [warning]);
}

#[test]
fn names_are_suggested() {
    assert_eq!(error("SELECT * FROM proceses"), "no such table: proceses; did you mean processes?");
    assert_eq!(
        error("SELECT p.cmdlin FROM processes p"),
        "no such column: p.cmdlin; did you mean cmdline?"
    );
    assert_eq!(error("SELECT sha265('x')"), "no such function: sha265; did you mean sha256?");
    assert_eq!(error("SELECT * FROM zzz"), "no such table: zzz");
    assert_eq!(error("SELEC 1"), "near \"SELEC\": syntax error");
}

#[test]
fn column_names_have_no_case() {
    assert_eq!(rows("SELECT PID, Name FROM Processes WHERE PiD = 1").len(), 1);
}

#[test]
fn only_reading_is_allowed() {
    let refused = [
        "CREATE TABLE t (x)",
        "CREATE TEMP TABLE t (x)",
        "ATTACH '/tmp/x.db' AS x",
        "ATTACH ':memory:' AS x",
        "PRAGMA query_only = OFF",
        "PRAGMA hard_heap_limit = 0",
        "PRAGMA writable_schema = 1",
        "SELECT load_extension('/tmp/x.so')",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE x",
        "INSERT INTO processes (pid) VALUES (1)",
        "DELETE FROM users",
        "BEGIN",
        "SAVEPOINT x",
        "VACUUM INTO '/tmp/x.db'",
        "CREATE VIRTUAL TABLE v USING fts5(x)",
        "EXPLAIN DELETE FROM users",
        "",
        "-- nothing",
    ];
    for sql in refused {
        assert!(ask(sql).error.is_some(), "{sql}");
    }
    assert_eq!(rows("SELECT 1;").len(), 1);
    assert!(rows("SELECT * FROM pragma_table_info('users')").len() > 8);
}

#[test]
fn parameters_are_bound_by_name() {
    let mut params = BTreeMap::new();
    params.insert("n".to_owned(), json!(3));
    params.insert("names".to_owned(), json!(["a", "b"]));
    params.insert("unused".to_owned(), json!(null));
    let sql = "SELECT :n + 1 AS n, value FROM json_each(:names)";
    let answer = ask_with(sql, &params);
    assert_eq!(answer.rows[1], *json!({"n": 4, "value": "b"}).as_object().unwrap());
    assert_eq!(answer.types[0], ("n".to_owned(), "Int".to_owned()));
    assert_eq!(error("SELECT :missing"), "parameter :missing has no value");
}

#[test]
fn helper_functions_answer() {
    let row = &rows(
        "SELECT split('a,b,c', ',', 1) s, regex_match('x=12', '=(\\d+)', 1) r, concat('a', 1) c, \
         concat_ws('-', 'a', 'b') w, md5('') m, inet_aton('0.0.1.0') i, to_base64('hi') t, \
         from_base64('aGk=') f, in_cidr_block('10.0.0.0/8', '10.1.1.1') n, \
         version_compare('1.10', '1.9') v, split(NULL, ',', 0) z, 'abc' REGEXP 'b' x, \
         sha256(1) = sha256('1') h",
    )[0];
    let expected = json!({
        "s": "b", "r": "12", "c": "a1", "w": "a-b", "m": "d41d8cd98f00b204e9800998ecf8427e",
        "i": 256, "t": "aGk=", "f": "hi", "n": 1, "v": 1, "z": null, "x": 1, "h": 1
    });
    assert_eq!(Value::Object(row.clone()), expected);
    assert!(error("SELECT regex_match('a', '(', 0)").contains("regex parse error"));
}

#[test]
fn every_table_answers_in_full() {
    for table in tables::all() {
        let name = table.name();
        let wanted =
            if matches!(name, "file" | "hash") { " WHERE path = '/etc/passwd'" } else { "" };
        let columns: Vec<&str> = table.columns().iter().map(|column| column.name).collect();
        let all = columns.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        let answer = ask(&format!("SELECT {all} FROM {name}{wanted}"));
        assert_eq!(answer.error, None, "{name}");
        assert_eq!(answer.warnings, [""; 0], "{name}");
        for row in &answer.rows {
            for column in table.columns() {
                let value = &row[column.name];
                let fits = match column.kind {
                    muster_agent::table::Type::Text => value.is_string(),
                    _ => value.is_i64(),
                };
                assert!(fits || value.is_null(), "{name}.{}: {value}", column.name);
            }
        }
    }
}
