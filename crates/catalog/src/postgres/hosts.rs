//! One URL, several servers: `postgres://user@h1:5432,h2:5432/db?target_session_attrs=read-write`.

use sqlx::postgres::PgConnectOptions;

use crate::{Error, Options};

/// A server of the URL.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// Host and port, for people.
    pub(super) name: String,
    pub(super) connect: PgConnectOptions,
}

/// Reads the URL. Nothing of it is repeated in an error: it may hold a password.
pub(super) fn parse(url: &str, options: &Options, read_only: bool) -> Result<Vec<Host>, Error> {
    let (front, authority, rest) = split(url);
    let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let at = if user.is_empty() { "" } else { "@" };
    let rest = without_session_attributes(rest)?;
    hosts
        .split(',')
        .map(|host| {
            let connect = format!("{front}{user}{at}{host}{rest}").parse::<PgConnectOptions>();
            let connect = connect.map_err(|error| not_understood(&error.to_string()))?;
            Ok(Host { name: host.to_owned(), connect: settings(connect, options, read_only) })
        })
        .collect()
}

/// `postgres://`, `user:password@hosts`, `/db?parameters`.
fn split(url: &str) -> (&str, &str, &str) {
    let front = url.find("://").map_or(0, |at| at + 3);
    let (front, rest) = url.split_at(front);
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    (front, authority, rest)
}

/// The catalog always wants the server that takes writes, so there is no choice to make.
fn without_session_attributes(rest: &str) -> Result<String, Error> {
    let Some((path, query)) = rest.split_once('?') else { return Ok(rest.to_owned()) };
    let mut kept = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("target_session_attrs", "read-write" | "primary")) => {}
            Some(("target_session_attrs", _)) => {
                return Err(not_understood(
                    "target_session_attrs is read-write; servers for reading belong into \
                     catalog.replicas",
                ));
            }
            _ => kept.push(pair),
        }
    }
    Ok(if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) })
}

fn not_understood(why: &str) -> Error {
    Error::Refused(format!("the catalog URL is not understood: {why}"))
}

/// What every connection is told: that no statement, lock or idle transaction is without a bound, and that
/// statements are planned by index, as the tests check them. Left to itself the planner reads a whole table that
/// was small when it last looked, with each of thousands of enrolments.
fn settings(connect: PgConnectOptions, options: &Options, read_only: bool) -> PgConnectOptions {
    let ms = |time: std::time::Duration| time.as_millis().to_string();
    connect.application_name("muster").statement_cache_capacity(512).options([
        ("statement_timeout", ms(options.statement_timeout)),
        ("lock_timeout", ms(options.lock_timeout)),
        ("idle_in_transaction_session_timeout", ms(options.hold_timeout)),
        ("default_transaction_isolation", "read committed".to_owned()),
        ("default_transaction_read_only", if read_only { "on" } else { "off" }.to_owned()),
        ("enable_seqscan", "off".to_owned()),
        ("enable_hashjoin", "off".to_owned()),
        ("enable_mergejoin", "off".to_owned()),
        // Where only a whole table will do, its price would look like one that is worth compiling for.
        ("jit", "off".to_owned()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(url: &str) -> Result<Vec<String>, String> {
        let hosts = parse(url, &Options::default(), false).map_err(|error| error.to_string())?;
        Ok(hosts.into_iter().map(|host| host.name).collect())
    }

    #[test]
    fn each_host_gets_everything_else() {
        let url = "postgres://ana:p%40ss@h1:5433,[::1]/db?sslmode=require&target_session_attrs=read-write";
        let hosts = parse(url, &Options::default(), false).unwrap();
        let seen: Vec<_> = hosts
            .iter()
            .map(|host| (host.connect.get_host().to_owned(), host.connect.get_port()))
            .collect();
        assert_eq!(seen, [("h1".to_owned(), 5433), ("[::1]".to_owned(), 5432)]);
        for host in &hosts {
            assert_eq!(host.connect.get_username(), "ana");
            assert_eq!(host.connect.get_database(), Some("db"));
        }
    }

    #[test]
    fn sockets_and_plain_urls_are_as_before() {
        assert_eq!(names("postgres://postgres@%2Ftmp%2Fx:5432/db").unwrap(), ["%2Ftmp%2Fx:5432"]);
        assert_eq!(names("postgresql://h/db").unwrap(), ["h"]);
        assert_eq!(names("postgres://h?target_session_attrs=primary").unwrap(), ["h"]);
    }

    #[test]
    fn refusals_hold_no_password() {
        for url in [
            "postgres://ana:secret@h1,h2/db?target_session_attrs=any",
            "postgres://ana:secret@h1:port/db",
            "postgres://ana:secret@h1/db?sslmode=sometimes",
        ] {
            let said = names(url).unwrap_err();
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
