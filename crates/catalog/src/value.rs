//! Values: what is bound to a statement and what a row holds.

use muster_types::{
    AgentNo, EndpointNo, Epoch, HuntNo, Incarnation, InstanceId, LabelNo, OrgId, Pos, Shard,
    Timestamp, UploadNo,
};
use uuid::Uuid;

/// Arguments of a statement, in the order of `$1…$n`. Made by [`crate::args!`].
pub type Args = Vec<Value>;

/// The type of a value. A NULL has one too: PostgreSQL prepares a statement for its types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 64-bit integer; also booleans (0 or 1) and times.
    Integer,
    /// 64-bit float.
    Real,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// A UUID: 16 bytes on SQLite.
    Uuid,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// NULL of a type.
    Null(Kind),
    /// An integer, boolean or time.
    Integer(i64),
    /// A float.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes; on SQLite also a UUID that was read.
    Bytes(Vec<u8>),
    /// A UUID.
    Uuid(Uuid),
    /// An unsigned number above 2⁶³−1: refused when it is bound.
    Overflow(u64),
}

/// A Rust type that can be bound.
pub trait SqlType: Into<Value> {
    /// Its type in SQL.
    const KIND: Kind;
}

impl<T: SqlType> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null(T::KIND), Into::into)
    }
}

macro_rules! bindable {
    ($($(@$life:lifetime)? $type:ty, $kind:ident, $value:ident => $convert:expr;)*) => {$(
        impl$(<$life>)? From<$type> for Value {
            fn from($value: $type) -> Self {
                $convert
            }
        }
        impl$(<$life>)? SqlType for $type {
            const KIND: Kind = Kind::$kind;
        }
    )*};
}

fn unsigned(value: u64) -> Value {
    i64::try_from(value).map_or(Value::Overflow(value), Value::Integer)
}

bindable! {
    i64, Integer, v => Self::Integer(v);
    i32, Integer, v => Self::Integer(v.into());
    i16, Integer, v => Self::Integer(v.into());
    u64, Integer, v => unsigned(v);
    usize, Integer, v => unsigned(v as u64);
    u32, Integer, v => Self::Integer(v.into());
    u16, Integer, v => Self::Integer(v.into());
    u8, Integer, v => Self::Integer(v.into());
    bool, Integer, v => Self::Integer(v.into());
    f64, Real, v => Self::Real(v);
    String, Text, v => Self::Text(v);
    @'a &'a str, Text, v => Self::Text(v.to_owned());
    @'a &'a String, Text, v => Self::Text(v.clone());
    Vec<u8>, Bytes, v => Self::Bytes(v);
    @'a &'a [u8], Bytes, v => Self::Bytes(v.to_vec());
    @'a &'a Vec<u8>, Bytes, v => Self::Bytes(v.clone());
    Uuid, Uuid, v => Self::Uuid(v);
    InstanceId, Uuid, v => Self::Uuid(v.0);
    Timestamp, Integer, v => Self::Integer(v.0);
    OrgId, Integer, v => Self::Integer(v.0.into());
    AgentNo, Integer, v => Self::Integer(v.0.into());
    EndpointNo, Integer, v => Self::Integer(v.0.into());
    HuntNo, Integer, v => unsigned(v.0);
    UploadNo, Integer, v => unsigned(v.0);
    LabelNo, Integer, v => unsigned(v.0);
    Pos, Integer, v => unsigned(v.0);
    Epoch, Integer, v => unsigned(v.0);
    Incarnation, Integer, v => unsigned(v.0);
    Shard, Integer, v => Self::Integer(v.get().into());
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(value: [u8; N]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl<const N: usize> SqlType for [u8; N] {
    const KIND: Kind = Kind::Bytes;
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(value: &[u8; N]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl<const N: usize> SqlType for &[u8; N] {
    const KIND: Kind = Kind::Bytes;
}

/// The arguments of a statement: `args![no, name, Some(bytes), None::<i64>]`.
#[macro_export]
macro_rules! args {
    ($($value:expr),* $(,)?) => {
{
            let args: $crate::Args = ::std::vec![$($crate::Value::from($value)),*];
            args
        }
    };
}
