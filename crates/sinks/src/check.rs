//! Which sinks can be made; nobody is asked for it.

use secrecy::ExposeSecret;
use url::Url;

use crate::{Batch, Destination, ElasticAuth, NewSink, Refusal};

/// Longest name of a sink.
const NAME_MAX: usize = 64;
/// Most patterns and labels of a filter.
const WORDS_MAX: usize = 100;
/// Longest text of a setting; a bundle of CA certificates fits.
const TEXT_MAX: usize = 64 << 10;

impl NewSink {
    /// Whether all of it can be; the destination is not asked.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for the first thing that cannot.
    pub fn check(&self) -> Result<(), Refusal> {
        let word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let named = |name: &str| {
            !name.is_empty()
                && name.len() <= NAME_MAX
                && name.chars().all(word)
                && !name.starts_with('.')
        };
        if !named(&self.name) {
            let message = "take 1 to 64 letters, digits, '.', '_' and '-' as the name";
            return Err(Refusal::invalid("/name", message));
        }
        let words = || self.filter.tables.iter().chain(&self.filter.labels);
        if words().count() > WORDS_MAX || words().any(|w| w.is_empty() || w.len() > 256) {
            let message = "a filter has at most 100 tables and labels of 1 to 256 bytes";
            return Err(Refusal::invalid("/filter", message));
        }
        let Batch { rows, bytes, timeout_seconds } = self.batch;
        let fits = (1..=10_000).contains(&rows)
            && (4 << 10..=16 << 20).contains(&bytes)
            && (1..=300).contains(&timeout_seconds);
        if !fits {
            let message =
                "a batch has 1 to 10000 rows, 4 KiB to 16 MiB, and 1 to 300 seconds of time";
            return Err(Refusal::invalid("/batch", message));
        }
        self.check_secret()?;
        match &self.destination {
            Destination::File { file, rotate_bytes, .. } => {
                if !named(file) {
                    let message = "name a file, not a path: it is kept in the folder for sinks";
                    return Err(Refusal::invalid("/destination/file", message));
                }
                if is_aside(file) {
                    let message =
                        "a name that ends in a dot and a number is that of a file put aside";
                    return Err(Refusal::invalid("/destination/file", message));
                }
                if *rotate_bytes < 4 << 10 {
                    let message = "files are put aside at 4 KiB at the least";
                    return Err(Refusal::invalid("/destination/rotate_bytes", message));
                }
                Ok(())
            }
            Destination::Stdout {} => Ok(()),
            Destination::Syslog { address, facility, ca_pem, .. } => {
                let (host, port) = address.rsplit_once(':').unwrap_or_default();
                if host.is_empty() || port.parse::<u16>().is_err() || address.len() > 300 {
                    let message = "write host:port; syslog inside TLS is mostly at port 6514";
                    return Err(Refusal::invalid("/destination/address", message));
                }
                if *facility > 23 {
                    let message = "a facility is a number from 0 to 23";
                    return Err(Refusal::invalid("/destination/facility", message));
                }
                check_pem(ca_pem.as_deref())
            }
            Destination::Webhook { url, secret_header, ca_pem, allow_private, .. } => {
                if let Some(name) = secret_header
                    && http::HeaderName::from_bytes(name.as_bytes()).is_err()
                {
                    let message = "this is no name of a header";
                    return Err(Refusal::invalid("/destination/secret_header", message));
                }
                check_url(url, *allow_private)?;
                check_pem(ca_pem.as_deref())
            }
            Destination::Splunk { url, ca_pem, allow_private, .. } => {
                if self.secret.is_none() {
                    let message = "an event collector asks for its token: give it as the secret";
                    return Err(Refusal::invalid("/secret", message));
                }
                check_url(url, *allow_private)?;
                check_pem(ca_pem.as_deref())
            }
            Destination::Elastic { url, index, ca_pem, allow_private, .. } => {
                let plain = index.replace("{table}", "t");
                let good = !plain.is_empty()
                    && plain.len() <= 200
                    && !plain.starts_with(['-', '_', '+', '.'])
                    && plain.chars().all(|c| {
                        c.is_ascii_lowercase() || c.is_ascii_digit() || "-_+.".contains(c)
                    });
                if !good {
                    let message = "an index has lower-case letters, digits, '-', '_', '+', '.' and \
                                   {table}, and begins with a letter or digit";
                    return Err(Refusal::invalid("/destination/index", message));
                }
                check_url(url, *allow_private)?;
                check_pem(ca_pem.as_deref())
            }
        }
    }

    fn check_secret(&self) -> Result<(), Refusal> {
        let Some(secret) = &self.secret else { return Ok(()) };
        let secret = secret.expose_secret();
        let visible = |b: u8| (0x20..0x7f).contains(&b);
        if secret.is_empty() || secret.len() > 4096 || !secret.bytes().all(visible) {
            let message = "a secret has 1 to 4096 printable ASCII characters";
            return Err(Refusal::invalid("/secret", message));
        }
        let basic =
            matches!(self.destination, Destination::Elastic { auth: ElasticAuth::Basic, .. });
        if basic && !secret.contains(':') {
            return Err(Refusal::invalid("/secret", "write user:password"));
        }
        Ok(())
    }
}

fn check_url(url: &str, allow_private: bool) -> Result<(), Refusal> {
    let invalid = |message: &str| Err(Refusal::invalid("/destination/url", message));
    let Ok(parsed) = Url::parse(url) else { return invalid("this is no URL") };
    if url.len() > 2048 || parsed.host().is_none() {
        return invalid("this is no URL of a host");
    }
    match parsed.scheme() {
        "https" => {}
        "http" if allow_private => {}
        "http" => return invalid("plain HTTP is only for private addresses (allow_private)"),
        _ => return invalid("write https://…"),
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return invalid("a URL is shown to people: give name and password as the secret");
    }
    if parsed.fragment().is_some() {
        return invalid("a URL to send to has no fragment");
    }
    match crate::destination::literal(&parsed, allow_private) {
        Ok(()) => Ok(()),
        Err(why) => invalid(&why),
    }
}

fn check_pem(pem: Option<&str>) -> Result<(), Refusal> {
    let Some(pem) = pem else { return Ok(()) };
    if pem.len() > TEXT_MAX {
        return Err(Refusal::invalid("/destination/ca_pem", "this is more than 64 KiB"));
    }
    let roots = crate::destination::roots(Some(pem));
    roots.map(drop).map_err(|why| Refusal::invalid("/destination/ca_pem", why))
}

/// Whether a name is one that another sink's file may get when it is put aside.
fn is_aside(file: &str) -> bool {
    let number = file.rsplit_once('.').map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}
