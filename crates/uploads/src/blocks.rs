//! Block rows of one upload, from one part of the result segments.

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use muster_types::UploadNo;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Rows decoded at a time: blocks may be megabytes, and compress to nothing.
const ROWS: usize = 4;

/// Hands every block of the upload in the part to `take`, in no order.
///
/// # Errors
/// What is wrong with the part.
pub(crate) fn read(
    part: Bytes,
    upload: UploadNo,
    mut take: impl FnMut(u32, &[u8]),
) -> Result<(), String> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(part).map_err(|e| e.to_string())?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["upload", "block", "data"]);
    let reader = builder.with_projection(mask).with_batch_size(ROWS).build();
    for batch in reader.map_err(|e| e.to_string())? {
        let batch = batch.map_err(|e| e.to_string())?;
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| format!("no {name}"));
        let uploads =
            column("upload")?.as_primitive_opt::<Int64Type>().ok_or("upload is no number")?;
        let blocks =
            column("block")?.as_primitive_opt::<Int64Type>().ok_or("block is no number")?;
        let data = column("data")?.as_binary_opt::<i32>().ok_or("data is not bytes")?;
        for row in 0..batch.num_rows() {
            let is_wanted = u64::try_from(uploads.value(row)) == Ok(upload.0);
            if is_wanted && let Ok(block) = u32::try_from(blocks.value(row)) {
                take(block, if data.is_null(row) { &[] } else { data.value(row) });
            }
        }
    }
    Ok(())
}
