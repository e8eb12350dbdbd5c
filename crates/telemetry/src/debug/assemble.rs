//! From parts to the one file the asker gets.

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use muster_archive::Archive;
use muster_types::{InstanceId, Timestamp};
use serde_json::json;

use super::{Bundle, Error, Part, Request, bundle};

/// What an archive will hold.
#[derive(Clone, Debug)]
pub struct Assembled {
    /// The request.
    pub request: Request,
    /// Its parts.
    pub parts: Vec<Part>,
}

impl Assembled {
    /// Whether everybody has answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing().is_empty()
    }

    /// Who has not answered.
    #[must_use]
    pub fn missing(&self) -> Vec<(InstanceId, &str)> {
        let answered = |id| self.parts.iter().any(|part| part.instance == id);
        let wanted = self.request.wanted.iter().filter(|wanted| !answered(wanted.id));
        wanted.map(|wanted| (wanted.id, wanted.name.as_str())).collect()
    }

    fn head(&self, now: Timestamp) -> Result<Bytes, Error> {
        let instances = self.request.wanted.iter().map(|wanted| {
            let part = self.parts.iter().find(|part| part.instance == wanted.id);
            json!({
                "instance": wanted.id.0,
                "name": wanted.name,
                "answered": part.is_some(),
                "byte_count": part.map(|part| part.byte_count),
                "problem": part.and_then(|part| part.problem.clone()),
            })
        });
        let summary = json!({
            "request": self.request.no,
            "requested_by": self.request.requested_by,
            "requested_at_micros": self.request.requested_at.0,
            "assembled_at_micros": now.0,
            "seconds": self.request.seconds,
            "instances": instances.collect::<Vec<_>>(),
        });
        let mut bundle = Bundle::new(&format!("muster-debug-{}", self.request.no), now);
        bundle.add("summary.json", format!("{summary:#}\n").as_bytes())?;
        let missing = self.missing();
        if !missing.is_empty() {
            let lines = missing.iter().map(|(id, name)| {
                format!("{name} ({}) did not answer in time: it is stopped, hangs, or cannot reach the catalog or the archive\n", id.0)
            });
            bundle.add("MISSING.txt", lines.collect::<String>().as_bytes())?;
        }
        Ok(bundle.finish()?)
    }
}

/// The bytes of the `.tar.gz`. One part is in memory at a time.
pub fn assemble(
    archive: Archive,
    assembled: Assembled,
    now: Timestamp,
) -> impl Stream<Item = Result<Bytes, Error>> + Send + use<> {
    let head = assembled.head(now);
    let objects = assembled.parts.into_iter().filter_map(|part| part.object);
    let parts = stream::iter(objects).then(move |object| {
        let archive = archive.clone();
        async move { Ok(archive.get(&object).await?) }
    });
    let end = bundle::end().map_err(Error::from);
    stream::iter([head]).chain(parts).chain(stream::iter([end]))
}
