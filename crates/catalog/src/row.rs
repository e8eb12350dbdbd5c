//! Rows as they are read, with checked conversions.

use std::sync::Arc;

use muster_types::{
    AgentNo, EndpointNo, Epoch, HuntNo, Incarnation, InstanceId, LabelNo, OrgId, Pos, Shard,
    Timestamp, UploadNo,
};
use uuid::Uuid;

use crate::{Error, Value};

/// One row of an answer.
#[derive(Clone, Debug)]
pub struct Row {
    columns: Arc<[Box<str>]>,
    values: Vec<Value>,
}

impl Row {
    pub(crate) fn new(columns: Arc<[Box<str>]>, values: Vec<Value>) -> Self {
        Self { columns, values }
    }

    /// The value of a column.
    ///
    /// # Errors
    /// [`Error::Other`] when there is no such column or the value does not fit into `T`.
    pub fn get<T: FromValue>(&self, column: &str) -> Result<T, Error> {
        let value = self.value(column)?;
        T::from_value(value).ok_or_else(|| mismatch::<T>(column, value))
    }

    /// The value of a column, moved out; large values are not copied.
    ///
    /// # Errors
    /// As [`Row::get`].
    pub fn take<T: FromValue>(&mut self, column: &str) -> Result<T, Error> {
        let at = self.position(column)?;
        let value = std::mem::replace(&mut self.values[at], Value::Null(crate::Kind::Bytes));
        T::from_owned(value).map_err(|value| mismatch::<T>(column, &value))
    }

    /// The value of a column as it was read.
    ///
    /// # Errors
    /// [`Error::Other`] when there is no such column.
    pub fn value(&self, column: &str) -> Result<&Value, Error> {
        Ok(&self.values[self.position(column)?])
    }

    fn position(&self, column: &str) -> Result<usize, Error> {
        self.columns
            .iter()
            .position(|name| **name == *column)
            .ok_or_else(|| Error::Other(format!("the answer has no column {column}")))
    }

    /// The names of the columns, in order.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|name| &**name)
    }
}

fn mismatch<T>(column: &str, value: &Value) -> Error {
    let found = match value {
        Value::Null(_) => "NULL".to_owned(),
        Value::Integer(n) => format!("the integer {n}"),
        Value::Real(n) => format!("the float {n}"),
        Value::Text(_) => "text".to_owned(),
        Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Value::Uuid(_) => "a UUID".to_owned(),
        Value::Overflow(n) => format!("the integer {n}"),
    };
    Error::Other(format!("column {column} holds {found}, not {}", std::any::type_name::<T>()))
}

/// A Rust type that can be read from a column.
pub trait FromValue: Sized {
    /// Converts; `None` when the value is of another type, NULL or out of range.
    fn from_value(value: &Value) -> Option<Self>;

    /// Converts without copying where it can; gives the value back when it does not fit.
    ///
    /// # Errors
    /// The value, unchanged.
    fn from_owned(value: Value) -> Result<Self, Value> {
        Self::from_value(&value).ok_or(value)
    }
}

impl FromValue for Value {
    fn from_value(value: &Value) -> Option<Self> {
        Some(value.clone())
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Null(_) => Some(None),
            value => T::from_value(value).map(Some),
        }
    }

    fn from_owned(value: Value) -> Result<Self, Value> {
        match value {
            Value::Null(_) => Ok(None),
            value => T::from_owned(value).map(Some),
        }
    }
}

macro_rules! integers {
    ($($type:ty => $make:expr;)*) => {$(
        impl FromValue for $type {
            fn from_value(value: &Value) -> Option<Self> {
                let Value::Integer(n) = value else { return None };
                ($make)(*n)
            }
        }
    )*};
}

fn checked<T: TryFrom<i64>>(n: i64) -> Option<T> {
    T::try_from(n).ok()
}

integers! {
    i64 => Some;
    i32 => checked;
    i16 => checked;
    u64 => checked;
    u32 => checked;
    u16 => checked;
    u8 => checked;
    usize => checked;
    bool => |n| match n { 0 => Some(false), 1 => Some(true), _ => None };
    Timestamp => |n| Some(Timestamp(n));
    OrgId => |n| checked(n).map(OrgId);
    AgentNo => |n| checked(n).map(AgentNo);
    EndpointNo => |n| checked(n).map(EndpointNo);
    HuntNo => |n| checked(n).map(HuntNo);
    UploadNo => |n| checked(n).map(UploadNo);
    LabelNo => |n| checked(n).map(LabelNo);
    Pos => |n| checked(n).map(Pos);
    Epoch => |n| checked(n).map(Epoch);
    Incarnation => |n| checked(n).map(Incarnation);
    Shard => |n| checked(n).and_then(Shard::new);
}

impl FromValue for f64 {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Real(n) => Some(*n),
            _ => None,
        }
    }
}

impl FromValue for String {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    fn from_owned(value: Value) -> Result<Self, Value> {
        match value {
            Value::Text(text) => Ok(text),
            other => Err(other),
        }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Bytes(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }

    fn from_owned(value: Value) -> Result<Self, Value> {
        match value {
            Value::Bytes(bytes) => Ok(bytes),
            other => Err(other),
        }
    }
}

impl<const N: usize> FromValue for [u8; N] {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Bytes(bytes) => bytes.as_slice().try_into().ok(),
            _ => None,
        }
    }
}

impl FromValue for Uuid {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Uuid(uuid) => Some(*uuid),
            Value::Bytes(bytes) => Self::from_slice(bytes).ok(),
            _ => None,
        }
    }
}

impl FromValue for InstanceId {
    fn from_value(value: &Value) -> Option<Self> {
        Uuid::from_value(value).map(Self)
    }
}
