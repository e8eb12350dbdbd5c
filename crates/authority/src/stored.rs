//! The form of the CAs in the catalog: one sealed text.
//!
//! For each CA a line with its number and the time it was added (microseconds since 1970), its certificate
//! and its key, both PEM. The one that signs comes first: whoever reads only the first pair, as
//! servers did that knew a single CA, has that. A pair without a line is CA 1 of such a server.

use muster_types::Timestamp;

use crate::authorities::Known;
use crate::{Authority, Error};

/// Name of the secret in the catalog.
pub const NAME: &str = "ca/1";

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
const KEY: &str = "-----BEGIN PRIVATE KEY-----";
const KEY_END: &str = "-----END PRIVATE KEY-----\n";

pub(crate) fn write(all: &[Known]) -> String {
    let mut text = String::new();
    for Known { no, added_at, authority } in all {
        let Authority { certificate_pem, key_pem } = authority;
        text += &format!("CA {no} added {}\n{certificate_pem}{key_pem}", added_at.0);
    }
    text
}

pub(crate) fn read(text: &str) -> Result<Vec<Known>, Error> {
    let damaged = || Error::Secret(muster_cluster::Error::Sealed { name: NAME.to_owned() });
    let mut all = Vec::new();
    let text = text.replace("\r\n", "\n");
    for pair in text.split_inclusive(KEY_END) {
        let (head, pair) = pair.split_at(pair.find(CERTIFICATE).ok_or_else(damaged)?);
        let (certificate, key) = pair.split_at(pair.find(KEY).ok_or_else(damaged)?);
        let authority =
            Authority { certificate_pem: certificate.to_owned(), key_pem: key.to_owned() };
        let (no, added_at) = match head.trim() {
            "" => (1, Timestamp(0)),
            head => line(head).ok_or_else(damaged)?,
        };
        all.push(Known { no, added_at, authority });
    }
    if all.is_empty() { Err(damaged()) } else { Ok(all) }
}

fn line(head: &str) -> Option<(u32, Timestamp)> {
    let (no, added_at) = head.strip_prefix("CA ")?.split_once(" added ")?;
    Some((no.parse().ok()?, Timestamp(added_at.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use muster_types::SystemClock;

    use super::*;

    #[test]
    fn a_text_without_lines_is_one_ca_and_what_is_written_reads_the_same() {
        let first = Authority::generate(&SystemClock).unwrap();
        let before = format!("{}{}", first.certificate_pem, first.key_pem);
        let mut all = read(&before).unwrap();
        assert_eq!((all.len(), all[0].no, all[0].added_at), (1, 1, Timestamp(0)));
        let second = Authority::generate(&SystemClock).unwrap();
        all.insert(0, Known { no: 2, added_at: Timestamp(7), authority: second });
        let text = write(&all);
        let again = read(&text).unwrap();
        let shape = |all: &[Known]| -> Vec<_> {
            let one = |ca: &Known| {
                (
                    ca.no,
                    ca.added_at,
                    ca.authority.certificate_pem.clone(),
                    ca.authority.key_pem.clone(),
                )
            };
            all.iter().map(one).collect()
        };
        assert_eq!(shape(&again), shape(&all));
        // Who knows of one CA alone takes the first certificate, and the first key after it.
        let key = text.find(KEY).unwrap();
        let single =
            Authority { certificate_pem: text[..key].to_owned(), key_pem: text[key..].to_owned() };
        assert_eq!(single.fingerprint().unwrap(), all[0].authority.fingerprint().unwrap());
        single.issue(&["localhost".to_owned()], &SystemClock).unwrap();
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let ca = Authority::generate(&SystemClock).unwrap();
        for text in [
            String::new(),
            "nonsense".to_owned(),
            ca.certificate_pem.clone(),
            format!("CA x added 1\n{}{}", ca.certificate_pem, ca.key_pem),
        ] {
            assert!(matches!(read(&text), Err(Error::Secret(_))), "{text}");
        }
    }
}
