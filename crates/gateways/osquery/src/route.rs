//! Which request is whose: the paths of both families, and osctrl's.

/// What an agent wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Endpoint<'a> {
    /// A node key.
    Enrol,
    /// Its configuration.
    Config,
    /// To leave log lines.
    Log,
    /// Queries to run.
    Read,
    /// To leave their answers.
    Write,
    /// To upload a file.
    CarveBegin,
    /// A part of it.
    CarveBlock,
    /// A file of YARA rules, by name.
    Yara(&'a str),
}

/// A request's path, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route<'a> {
    /// What is wanted.
    pub endpoint: Endpoint<'a>,
    /// For osctrl's paths: the environment.
    pub environment: Option<&'a str>,
}

/// Longest name in a path.
const NAME_MAX: usize = 128;

/// Reads a path; `None` when it is not one of osquery's.
pub(crate) fn route(path: &str) -> Option<Route<'_>> {
    let fleet =
        path.strip_prefix("/api/osquery/").or_else(|| path.strip_prefix("/api/v1/osquery/"));
    if let Some(rest) = fleet {
        return Some(Route { endpoint: of_fleet(rest)?, environment: None });
    }
    let (environment, rest) = path.strip_prefix('/')?.split_once('/')?;
    let endpoint = of_osctrl(rest)?;
    // `/api/log` and `/v1/config` are nobody's environment.
    let reserved = ["api", "v1"].contains(&environment) || !is_name(environment);
    (!reserved).then_some(Route { endpoint, environment: Some(environment) })
}

fn of_fleet(rest: &str) -> Option<Endpoint<'_>> {
    Some(match rest {
        "enroll" => Endpoint::Enrol,
        "config" => Endpoint::Config,
        "log" => Endpoint::Log,
        "distributed/read" => Endpoint::Read,
        "distributed/write" => Endpoint::Write,
        "carve/begin" => Endpoint::CarveBegin,
        "carve/block" => Endpoint::CarveBlock,
        _ => Endpoint::Yara(rest.strip_prefix("yara/").filter(|name| is_name(name))?),
    })
}

fn of_osctrl(rest: &str) -> Option<Endpoint<'static>> {
    Some(match rest {
        "enroll" => Endpoint::Enrol,
        "config" => Endpoint::Config,
        "log" => Endpoint::Log,
        "read" => Endpoint::Read,
        "write" => Endpoint::Write,
        "init" => Endpoint::CarveBegin,
        "block" => Endpoint::CarveBlock,
        _ => return None,
    })
}

fn is_name(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    !text.is_empty() && text.len() <= NAME_MAX && text.bytes().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_name_the_same_things() {
        for prefix in ["/api/osquery/", "/api/v1/osquery/"] {
            let of = |rest: &'static str| {
                let path = format!("{prefix}{rest}").leak();
                route(path).map(|route| route.endpoint)
            };
            assert_eq!(of("enroll"), Some(Endpoint::Enrol));
            assert_eq!(of("distributed/read"), Some(Endpoint::Read));
            assert_eq!(of("carve/block"), Some(Endpoint::CarveBlock));
            assert_eq!(of("yara/malware.yar"), Some(Endpoint::Yara("malware.yar")));
            assert_eq!(of("yara/../secret"), None);
            assert_eq!(of("read"), None);
        }
    }

    #[test]
    fn an_environment_stands_before_osctrls_words() {
        let found = route("/berlin/read").unwrap();
        assert_eq!((found.endpoint, found.environment), (Endpoint::Read, Some("berlin")));
        for path in
            ["/berlin/distributed/read", "/read", "//read", "/v1/log", "/a/b/log", "/api/log"]
        {
            assert_eq!(route(path), None, "{path}");
        }
    }
}
