//! Reading a request's head.

use std::mem::MaybeUninit;

use super::Head;
use crate::listener::ForwardedFor;

/// Longest head.
pub(super) const HEAD_BYTES_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 64;

/// What bytes hold of a head.
#[derive(Debug)]
pub(super) enum Parse<'a> {
    /// Not all of it yet.
    Partial,
    /// All of it.
    Whole(Parsed<'a>),
    /// HTTP, but not as this server does it: a chunked body, or a method with rules of its own.
    Other,
    /// No HTTP, or too long: the status and the reason.
    Bad(u16, &'static str),
}

/// A whole head.
#[derive(Debug)]
pub(super) struct Parsed<'a> {
    pub(super) head: Head<'a>,
    /// Its length with the empty line.
    pub(super) len: usize,
    /// Whether the body comes only when asked for.
    pub(super) expects_continue: bool,
    /// Whether another request may follow.
    pub(super) keep_alive: bool,
}

/// Parses what there is.
pub(super) fn parse(bytes: &[u8]) -> Parse<'_> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let len = match request.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete(len)) if len <= HEAD_BYTES_MAX => len,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Parse::Partial,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Parse::Bad(431, "head too large"),
        Err(_) => return Parse::Bad(400, "malformed request"),
    };
    let (Some(method), Some(target)) = (request.method, request.path) else {
        return Parse::Bad(400, "malformed request");
    };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let head = Head {
        method,
        path,
        query,
        authorization: None,
        content_length: 0,
        gzip_body: false,
        accepts_gzip: false,
        forwarded_for: ForwardedFor::default(),
        user_agent: None,
    };
    let mut fields = Fields {
        parsed: Parsed {
            head,
            len,
            expects_continue: false,
            keep_alive: request.version == Some(1),
        },
        length: None,
        is_chunked: false,
        is_bad: false,
    };
    for header in request.headers.iter() {
        fields.read(header.name, header.value);
    }
    fields.judge()
}

/// What the header fields say, as they are read.
struct Fields<'a> {
    parsed: Parsed<'a>,
    length: Option<u64>,
    is_chunked: bool,
    is_bad: bool,
}

impl<'a> Fields<'a> {
    fn read(&mut self, name: &str, value: &'a [u8]) {
        let Parsed { head, expects_continue, keep_alive, .. } = &mut self.parsed;
        let text = || std::str::from_utf8(value).ok().map(str::trim);
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        // By length first: a dozen comparisons become one or two.
        match name.len() {
            14 if is("content-length") => {
                let length = text().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                let length = length.and_then(|text| text.parse().ok());
                // Two lengths, or none that is a number: somebody else would see another body.
                self.is_bad |=
                    length.is_none() || self.length.is_some_and(|old| Some(old) != length);
                self.length = length;
            }
            17 if is("transfer-encoding") => self.is_chunked = true,
            16 if is("content-encoding") => {
                head.gzip_body = text().is_some_and(|text| text.eq_ignore_ascii_case("gzip"));
            }
            15 if is("accept-encoding") => head.accepts_gzip = text().is_some_and(takes_gzip),
            15 if is("x-forwarded-for") => head.forwarded_for.push(text()),
            13 if is("authorization") => head.authorization = text(),
            10 if is("user-agent") => head.user_agent = text(),
            10 if is("connection") => {
                for option in text().unwrap_or_default().split(',').map(str::trim) {
                    *keep_alive |= option.eq_ignore_ascii_case("keep-alive");
                    if option.eq_ignore_ascii_case("close") {
                        *keep_alive = false;
                        break;
                    }
                }
            }
            6 if is("expect") => {
                *expects_continue =
                    text().is_some_and(|text| text.eq_ignore_ascii_case("100-continue"));
            }
            _ => {}
        }
    }

    fn judge(self) -> Parse<'a> {
        let Self { mut parsed, length, is_chunked, is_bad } = self;
        let method = parsed.head.method;
        if is_bad || (is_chunked && length.is_some()) {
            return Parse::Bad(400, "contradictory length");
        }
        if is_chunked || matches!(method, "HEAD" | "CONNECT" | "OPTIONS") {
            return Parse::Other;
        }
        parsed.head.content_length = match length {
            Some(length) => length,
            None if matches!(method, "POST" | "PUT" | "PATCH") => {
                return Parse::Bad(411, "length required");
            }
            None => 0,
        };
        Parse::Whole(parsed)
    }
}

fn takes_gzip(value: &str) -> bool {
    value.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        is_gzip && !parts.any(|weight| matches!(weight, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// Method and path of a request that begins with these bytes; `None` while the line is not there up to
/// the path's end, an error when it is none.
pub(super) fn request_line(first: &[u8]) -> Result<Option<(&str, &str)>, ()> {
    const TARGET_BYTES_MAX: usize = 4 << 10;
    let mut words = first.split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next());
    if method.len() > 16 || !method.iter().all(u8::is_ascii_uppercase) {
        return Err(());
    }
    let Some(target) = target else { return Ok(None) };
    if target.iter().any(u8::is_ascii_control) || target.len() > TARGET_BYTES_MAX {
        return Err(());
    }
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    // Whole when something follows it.
    if path.len() == target.len() && words.next().is_none() {
        return Ok(None);
    }
    match (std::str::from_utf8(method), std::str::from_utf8(path)) {
        (Ok(method), Ok(path)) => Ok(Some((method, path))),
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Parsed<'_> {
        match parse(text.as_bytes()) {
            Parse::Whole(parsed) => parsed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_agents_send() {
        let text = "POST /api/v1/osquery/log?x=1 HTTP/1.1\r\nHost: h\r\nauthorization: NodeKey abc\r\n\
            Content-Encoding: gzip\r\nAccept-Encoding: deflate, gzip;q=0.5\r\nUser-Agent: osquery/5.23.0\r\n\
            X-Forwarded-For: ::1\r\nX-Forwarded-For: 192.0.2.7\r\nExpect: 100-continue\r\nContent-Length: 12\r\n\r\nbody";
        let Parsed { head, len, expects_continue, keep_alive } = whole(text);
        assert_eq!(
            (head.method, head.path, head.query),
            ("POST", "/api/v1/osquery/log", Some("x=1"))
        );
        assert_eq!(head.authorization, Some("NodeKey abc"));
        assert_eq!(head.forwarded_for.newest_first().collect::<Vec<_>>(), ["192.0.2.7", "::1"]);
        assert_eq!(head.user_agent, Some("osquery/5.23.0"));
        assert!(head.gzip_body && head.accepts_gzip && expects_continue && keep_alive);
        assert_eq!((head.content_length, len), (12, text.len() - 4));
    }

    #[test]
    fn when_the_connection_ends() {
        assert!(!whole("GET / HTTP/1.0\r\n\r\n").keep_alive);
        assert!(whole("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keep_alive);
        assert!(!whole("GET / HTTP/1.1\r\nConnection: x, Close\r\n\r\n").keep_alive);
    }

    #[test]
    fn lengths_nobody_agrees_on_are_refused() {
        let post = |fields: &str| format!("POST / HTTP/1.1\r\n{fields}\r\n");
        for (fields, status) in [
            ("", 411),
            ("Content-Length: 1\r\nContent-Length: 2\r\n", 400),
            ("Content-Length: +1\r\n", 400),
            ("Content-Length: 1, 1\r\n", 400),
            ("Content-Length: 99999999999999999999\r\n", 400),
            ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400),
        ] {
            let text = post(fields);
            assert!(matches!(parse(text.as_bytes()), Parse::Bad(s, _) if s == status), "{fields}");
        }
        let chunked = post("Transfer-Encoding: chunked\r\n");
        assert!(matches!(parse(chunked.as_bytes()), Parse::Other));
        assert_eq!(
            whole(&post("Content-Length: 3\r\nContent-Length: 3\r\n")).head.content_length,
            3
        );
    }

    #[test]
    fn heads_are_bounded() {
        assert!(matches!(parse(b"POST / HTTP/1.1\r\nHost"), Parse::Partial));
        assert!(matches!(parse(b"\x16\x03\x01"), Parse::Bad(400, _)));
        let endless = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(HEAD_BYTES_MAX));
        assert!(matches!(parse(endless.as_bytes()), Parse::Bad(431, _)));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(HEADERS_MAX + 1));
        assert!(matches!(parse(many.as_bytes()), Parse::Bad(431, _)));
    }

    #[test]
    fn the_first_line_tells_whose_it_is() {
        assert_eq!(request_line(b"POST /a/b HTTP/1.1\r\n"), Ok(Some(("POST", "/a/b"))));
        assert_eq!(request_line(b"POST /a/b?q HT"), Ok(Some(("POST", "/a/b"))));
        assert_eq!(request_line(b"POST /a/b?"), Ok(Some(("POST", "/a/b"))));
        for undecided in [&b""[..], b"PO", b"POST ", b"POST /a"] {
            assert_eq!(request_line(undecided), Ok(None));
        }
        for not_http in [&b"\x16\x03"[..], b"get / ", b"POST /\r\n\r\n", b"ABCDEFGHIJKLMNOPQR"] {
            assert_eq!(request_line(not_http), Err(()));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_judged(bytes: Vec<u8>) {
            if let Parse::Whole(parsed) = parse(&bytes) {
                assert!(parsed.len <= bytes.len());
            }
            let _ = request_line(&bytes);
        }

        #[test]
        fn a_head_is_partial_until_it_is_whole(
            path in "/[a-z/]{0,40}(\\?[a-z=]{1,10})?",
            field in "[A-Za-z-]{1,20}",
            value in "[ -~]{0,40}",
        ) {
            let text = format!("POST {path} HTTP/1.1\r\nX-{field}: {value}\r\nContent-Length: 2\r\n\r\n");
            for cut in 0..text.len() {
                assert!(matches!(parse(&text.as_bytes()[..cut]), Parse::Partial), "{cut}");
                let line = request_line(&text.as_bytes()[..cut]);
                assert!(matches!(line, Ok(None)) || cut > "POST ".len(), "{cut}: {line:?}");
            }
            let parsed = whole(&text);
            let bare = path.split('?').next().unwrap();
            assert_eq!((parsed.head.path, parsed.head.content_length), (bare, 2));
            assert_eq!(request_line(text.as_bytes()), Ok(Some(("POST", bare))));
        }
    }
}
