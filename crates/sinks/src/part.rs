//! One Parquet part of the archive, read by ranges.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use muster_archive::Archive;
use muster_archive::manifest::Part;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

/// A part up to this long is read at once.
const WHOLE_MAX: u64 = 1 << 20;
/// What is read first of the end of a longer one.
const TAIL_BYTES: u64 = 64 << 10;

/// A part, opened: its footer is read, and the part itself when it is short.
#[derive(Clone)]
pub(crate) struct PartReader {
    archive: Archive,
    object: Arc<str>,
    begin: u64,
    length: u64,
    whole: Option<Bytes>,
    footer: Option<Arc<ParquetMetaData>>,
}

impl PartReader {
    pub(crate) async fn open(archive: &Archive, part: &Part) -> Result<Self> {
        let (begin, length) = (part.info.byte_offset, part.info.byte_count);
        let object = part.object.as_str().into();
        let mut reader =
            Self { archive: archive.clone(), object, begin, length, whole: None, footer: None };
        if length <= WHOLE_MAX {
            reader.whole = Some(reader.read(0..length).await?);
        }
        let hint = usize::try_from(TAIL_BYTES.min(length)).ok();
        let footer = ParquetMetaDataReader::new().with_prefetch_hint(hint);
        reader.footer = Some(Arc::new(footer.load_and_finish(&mut reader, length).await?));
        Ok(reader)
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        if range.start > range.end || range.end > self.length {
            let reason = format!("bytes {range:?} are asked of a part of {}", self.length);
            return Err(ParquetError::General(reason));
        }
        if let Some(whole) = &self.whole {
            return Ok(whole.slice(range.start as usize..range.end as usize));
        }
        let placed = self.begin + range.start..self.begin + range.end;
        let read = self.archive.get_range(&self.object, placed).await;
        read.map_err(|error| ParquetError::External(Box::new(error)))
    }
}

impl AsyncFileReader for PartReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move { self.read(range).await }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        let footer = self.footer.clone();
        async move { footer.ok_or_else(|| ParquetError::General("no footer".to_owned())) }.boxed()
    }
}
