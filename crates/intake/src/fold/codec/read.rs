//! Numbers and texts, each read with a look at what is left.

use bytes::{Buf, BufMut};

use super::StateError;

pub(super) const SHORT: StateError = StateError::Malformed("ends early");
/// Stands for an end that names no outcome.
pub(super) const NO_OUTCOME: u8 = 255;
/// Bits of a byte of [`number`] that are its value; the highest says that another byte follows.
const SEVEN: u32 = 7;

pub(super) fn u8(bytes: &mut &[u8]) -> Result<u8, StateError> {
    bytes.try_get_u8().map_err(|_| SHORT)
}

pub(super) fn u16(bytes: &mut &[u8]) -> Result<u16, StateError> {
    bytes.try_get_u16_le().map_err(|_| SHORT)
}

pub(super) fn u32(bytes: &mut &[u8]) -> Result<u32, StateError> {
    bytes.try_get_u32_le().map_err(|_| SHORT)
}

pub(super) fn u64(bytes: &mut &[u8]) -> Result<u64, StateError> {
    bytes.try_get_u64_le().map_err(|_| SHORT)
}

pub(super) fn i64(bytes: &mut &[u8]) -> Result<i64, StateError> {
    bytes.try_get_i64_le().map_err(|_| SHORT)
}

pub(super) fn text(bytes: &mut &[u8], length: usize) -> Result<String, StateError> {
    let text = bytes.split_off(..length).ok_or(SHORT)?;
    String::from_utf8(text.to_vec()).map_err(|_| StateError::Malformed("text is not UTF-8"))
}

/// A number in as many bytes as it needs (LEB128, unsigned).
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 1 << SEVEN {
        out.put_u8(number as u8 | 1 << SEVEN);
        number >>= SEVEN;
    }
    out.put_u8(number as u8);
}

/// What [`put_number`] wrote.
pub(super) fn number(bytes: &mut &[u8]) -> Result<u64, StateError> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(SEVEN as usize) {
        let byte = u8(bytes)?;
        let value = u64::from(byte & !(1 << SEVEN));
        if (value << shift) >> shift != value {
            break;
        }
        number |= value << shift;
        if byte == value as u8 {
            return Ok(number);
        }
    }
    Err(TOO_LARGE)
}

/// The same, of a smaller type.
pub(super) fn small<T: TryFrom<u64>>(bytes: &mut &[u8]) -> Result<T, StateError> {
    T::try_from(number(bytes)?).map_err(|_| TOO_LARGE)
}

const TOO_LARGE: StateError = StateError::Malformed("a number is too large");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_is_read_as_it_was_written(wide in any::<u64>(), bits in 0u32..64) {
            let (wanted, mut out) = (wide >> bits, Vec::new());
            put_number(&mut out, wanted);
            prop_assert!(out.len() <= 10);
            let mut bytes = out.as_slice();
            prop_assert_eq!(number(&mut bytes), Ok(wanted));
            prop_assert!(bytes.is_empty());
        }
    }

    #[test]
    fn a_number_that_does_not_fit_is_refused() {
        let mut out = vec![0xff; 9];
        out.push(1);
        assert_eq!(number(&mut out.as_slice()), Ok(u64::MAX));
        out[9] = 2;
        assert_eq!(number(&mut out.as_slice()), Err(TOO_LARGE));
        assert_eq!(number(&mut [0x80; 11].as_slice()), Err(TOO_LARGE));
        assert_eq!(number(&mut [0x80].as_slice()), Err(SHORT));
        assert_eq!(small::<u8>(&mut [0x80, 2].as_slice()), Err(TOO_LARGE));
    }
}
