//! Records of the stream: what decodes is read back as the same.
#![no_main]

use bytes::{Bytes, BytesMut};
use muster_types::Record;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(record) = Record::decode(Bytes::copy_from_slice(data)) {
        let mut again = BytesMut::new();
        record.encode(&mut again);
        assert_eq!(Record::decode(again.freeze()), Ok(record));
    }
});
