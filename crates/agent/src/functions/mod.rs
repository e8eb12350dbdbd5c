//! The SQL functions osquery's queries rely on, beyond SQLite's own.

mod net;
mod text;
mod version;

pub(crate) use net::in_cidr_block;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use regex::Regex;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, Result};
use sha1::Sha1;
use sha2::{Digest, Sha256};

const PURE: FunctionFlags = FunctionFlags::SQLITE_UTF8
    .union(FunctionFlags::SQLITE_DETERMINISTIC)
    .union(FunctionFlags::SQLITE_INNOCUOUS);

/// A compiled pattern may take this much memory.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Adds them all to a connection. An argument that is NULL gives NULL.
pub(crate) fn register(db: &Connection) -> Result<()> {
    texts(db, "split", 3, |args| {
        text::split(&args[0], &args[1], args[2].parse().ok()?).map(str::to_owned)
    })?;
    texts(db, "to_base64", 1, |args| Some(STANDARD.encode(&args[0])))?;
    texts(db, "from_base64", 1, |args| {
        let bytes = STANDARD.decode(args[0].trim()).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    })?;
    texts(db, "conditional_to_base64", 1, |args| {
        Some(if args[0].is_ascii() { args[0].clone() } else { STANDARD.encode(&args[0]) })
    })?;
    texts(db, "parent_directory", 1, |args| text::parent_directory(&args[0]))?;
    digests(db)?;
    patterns(db)?;
    numbers(db, "inet_aton", 1, |args| net::inet_aton(&args[0]))?;
    numbers(db, "in_cidr_block", 2, |args| net::in_cidr_block(&args[0], &args[1]).map(i64::from))?;
    numbers(db, "is_path_deterministic", 1, |args| Some(i64::from(!args[0].contains('%'))))?;
    for arguments in [2, 3] {
        // The third names a flavour (DPKG, RHEL, ARCH): all are read by one rule here.
        numbers(db, "version_compare", arguments, |args| {
            Some(version::compare(&args[0], &args[1]) as i64)
        })?;
    }
    maths(db)
}

fn digests(db: &Connection) -> Result<()> {
    fn register<D: Digest>(db: &Connection, name: &str) -> Result<()> {
        db.create_scalar_function(name, 1, PURE, |context| {
            Ok(match context.get_raw(0) {
                ValueRef::Null => None,
                ValueRef::Blob(bytes) | ValueRef::Text(bytes) => Some(D::digest(bytes)),
                _ => text_of(context, 0)?.map(|text| D::digest(text.as_bytes())),
            }
            .map(|digest| hex::encode(digest.as_slice())))
        })
    }
    register::<Md5>(db, "md5")?;
    register::<Sha1>(db, "sha1")?;
    register::<Sha256>(db, "sha256")
}

fn patterns(db: &Connection) -> Result<()> {
    db.create_scalar_function("regex_match", 3, PURE, |context| {
        let (Some(pattern), Some(text)) = (pattern(context, 1)?, text_of(context, 0)?) else {
            return Ok(None);
        };
        let group = usize::try_from(context.get::<i64>(2)?).unwrap_or(usize::MAX);
        let captures = pattern.captures(&text);
        Ok(captures.and_then(|found| Some(found.get(group)?.as_str().to_owned())))
    })?;
    db.create_scalar_function("regex_split", 3, PURE, |context| {
        let (Some(pattern), Some(text)) = (pattern(context, 1)?, text_of(context, 0)?) else {
            return Ok(None);
        };
        let index = usize::try_from(context.get::<i64>(2)?).unwrap_or(usize::MAX);
        Ok(pattern.split(&text).nth(index).map(str::to_owned))
    })?;
    // `text REGEXP pattern` is `regexp(pattern, text)`.
    db.create_scalar_function("regexp", 2, PURE, |context| {
        let (Some(pattern), Some(text)) = (pattern(context, 0)?, text_of(context, 1)?) else {
            return Ok(None);
        };
        Ok(Some(pattern.is_match(&text)))
    })
}

/// The pattern argument, compiled once per statement.
fn pattern(context: &Context<'_>, at: i32) -> Result<Option<Arc<Regex>>> {
    let Some(text) = text_of(context, usize::try_from(at).unwrap_or(0))? else { return Ok(None) };
    let compile = || {
        regex::RegexBuilder::new(&text)
            .size_limit(REGEX_BYTES_MAX)
            .build()
            .map_err(|error| Error::UserFunctionError(error.into()))
    };
    // SQLite keeps it only while the argument is constant; a pattern out of a column is compiled anew.
    context
        .get_or_create_aux(
            at,
            |_| -> std::result::Result<_, Box<dyn std::error::Error + Send + Sync>> {
                Ok(compile()?)
            },
        )
        .map(Some)
}

fn maths(db: &Connection) -> Result<()> {
    type OfOne = fn(f64) -> f64;
    let functions: [(&str, OfOne); 15] = [
        ("sqrt", f64::sqrt),
        ("log", f64::ln),
        ("log10", f64::log10),
        ("ceil", f64::ceil),
        ("floor", f64::floor),
        ("sin", f64::sin),
        ("cos", f64::cos),
        ("tan", f64::tan),
        ("cot", |x| 1.0 / x.tan()),
        ("asin", f64::asin),
        ("acos", f64::acos),
        ("atan", f64::atan),
        ("radians", f64::to_radians),
        ("degrees", f64::to_degrees),
        ("exp", f64::exp),
    ];
    for (name, function) in functions {
        db.create_scalar_function(name, 1, PURE, move |context| {
            Ok(context.get::<Option<f64>>(0)?.map(function))
        })?;
    }
    db.create_scalar_function("power", 2, PURE, |context| {
        let (base, exponent): (Option<f64>, Option<f64>) = (context.get(0)?, context.get(1)?);
        Ok(base.zip(exponent).map(|(base, exponent)| base.powf(exponent)))
    })?;
    db.create_scalar_function("pi", 0, PURE, |_| Ok(std::f64::consts::PI))
}

/// A function of texts that gives text.
fn texts(
    db: &Connection,
    name: &str,
    arguments: i32,
    function: fn(&[String]) -> Option<String>,
) -> Result<()> {
    db.create_scalar_function(name, arguments, PURE, move |context| {
        Ok(all_texts(context)?.as_deref().and_then(function))
    })
}

/// A function of texts that gives a whole number.
fn numbers(
    db: &Connection,
    name: &str,
    arguments: i32,
    function: fn(&[String]) -> Option<i64>,
) -> Result<()> {
    db.create_scalar_function(name, arguments, PURE, move |context| {
        Ok(all_texts(context)?.as_deref().and_then(function))
    })
}

fn all_texts(context: &Context<'_>) -> Result<Option<Vec<String>>> {
    (0..context.len()).map(|at| text_of(context, at)).collect()
}

/// An argument as text, whatever its type.
fn text_of(context: &Context<'_>, at: usize) -> Result<Option<String>> {
    Ok(match context.get_raw(at) {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
    })
}
