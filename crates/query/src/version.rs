//! `version_compare(a, b)` and `version_lt(a, b)`: the order of version numbers, whoever wrote them.
//!
//! A version is read as numbers, words and what stands between them, left to right; the first
//! difference decides. It follows dpkg, and rpm and semver where they do not contradict it:
//!
//! - A leading `v` and blanks are nothing. Digits before a `:` are the epoch, which decides first; none is 0.
//! - Numbers compare by value, words by letter without case, a word is less than a number.
//! - What can stand at one place, rising: `~`; a word for what is before a release (`dev`, `snapshot`,
//!   `nightly`, `alpha`, `beta`, `pre`, `preview`, `rc`, in this order of groups); the end; `-`, which begins a
//!   revision; `^`; a word; `+`; any other separator; a number.
//! - A separator before a word for what is before a release is nothing: `1.0-rc1` is `1.0rc1`, less than `1.0`.
//!
//! So `3.0.9` < `3.0.14`, `1.1.1` < `1.1.1w`, `1.0~rc1` < `1.0` < `1.0-1` < `1.0+dfsg` < `1.0.1` < `1:0.1`.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, StringViewArray};
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::common::types::logical_string;
use datafusion::common::utils::take_function_args;
use datafusion::logical_expr::{
    Coercion, ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TypeSignatureClass, Volatility,
};

/// Compares two versions.
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    let ((epoch_a, mut a), (epoch_b, mut b)) = (Rest::of(a), Rest::of(b));
    let mut order = number(epoch_a, epoch_b);
    while order == Ordering::Equal {
        let (left, right) = (a.next(), b.next());
        if (left, right) == (Token::End, Token::End) {
            break;
        }
        order = left.rank().cmp(&right.rank()).then_with(|| match (left, right) {
            (Token::Number(left), Token::Number(right)) => number(left, right),
            (Token::Word(left), Token::Word(right)) => {
                let lower = |word: &'_ [u8]| word.to_ascii_lowercase();
                lower(left).cmp(&lower(right))
            }
            (Token::Before(left), Token::Before(right)) => left.cmp(&right),
            _ => Ordering::Equal,
        });
    }
    order
}

/// Digits by value, however many there are.
fn number(a: &[u8], b: &[u8]) -> Ordering {
    let plain = |digits: &[u8]| digits.iter().position(|d| *d != b'0').unwrap_or(digits.len());
    let (a, b) = (&a[plain(a)..], &b[plain(b)..]);
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Tilde,
    /// A word for what is before a release, by its group.
    Before(u8),
    End,
    Dash,
    Caret,
    Word(&'a [u8]),
    Plus,
    Separator,
    Number(&'a [u8]),
}

impl Token<'_> {
    fn rank(self) -> u8 {
        match self {
            Self::Tilde => 0,
            Self::Before(_) => 1,
            Self::End => 2,
            Self::Dash => 3,
            Self::Caret => 4,
            Self::Word(_) => 5,
            Self::Plus => 6,
            Self::Separator => 7,
            Self::Number(_) => 8,
        }
    }
}

/// What is left to read of a version.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    /// The epoch's digits, and what is behind it.
    fn of(version: &'a str) -> (&'a [u8], Self) {
        let text = version.trim().as_bytes();
        let text = match text {
            [b'v' | b'V', rest @ ..] if rest.first().is_some_and(u8::is_ascii_digit) => rest,
            text => text,
        };
        let digits = run(text, u8::is_ascii_digit);
        match text.get(digits) {
            Some(b':') if digits > 0 => (&text[..digits], Self(&text[digits + 1..])),
            _ => (&[], Self(text)),
        }
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn next(&mut self) -> Token<'a> {
        let Some(first) = self.0.first().copied() else { return Token::End };
        if first.is_ascii_digit() {
            let count = run(self.0, u8::is_ascii_digit);
            return Token::Number(self.take(count));
        }
        let separators = usize::from(matches!(first, b'.' | b'-' | b'_' | b' '));
        let letters = run(&self.0[separators..], is_letter);
        let word = &self.0[separators..separators + letters];
        if let Some(group) = before(word) {
            self.take(separators + letters);
            return Token::Before(group);
        }
        if separators == 0 && letters > 0 {
            return Token::Word(self.take(letters));
        }
        self.take(1);
        match first {
            b'~' => Token::Tilde,
            b'-' => Token::Dash,
            b'^' => Token::Caret,
            b'+' => Token::Plus,
            _ => Token::Separator,
        }
    }
}

/// How many bytes from the first on are of a kind.
fn run(text: &[u8], of: impl Fn(&u8) -> bool) -> usize {
    text.iter().position(|byte| !of(byte)).unwrap_or(text.len())
}

/// Bytes of letters outside ASCII are letters.
fn is_letter(byte: &u8) -> bool {
    byte.is_ascii_alphabetic() || !byte.is_ascii()
}

fn before(word: &[u8]) -> Option<u8> {
    const GROUPS: [&[&str]; 5] = [
        &["dev"],
        &["snapshot", "nightly", "canary"],
        &["alpha"],
        &["beta"],
        &["pre", "preview", "rc"],
    ];
    let is = |known: &&str| word.eq_ignore_ascii_case(known.as_bytes());
    let group = GROUPS.iter().position(|words| words.iter().any(is))?;
    u8::try_from(group).ok()
}

/// One of the functions.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Function {
    name: &'static str,
    signature: Signature,
    /// Whether it answers "less" instead of -1, 0 or 1.
    less: bool,
}

/// Both functions.
pub(crate) fn functions() -> [ScalarUDF; 2] {
    let text = || Coercion::new_exact(TypeSignatureClass::Native(logical_string()));
    let function = |name, less| {
        let signature = Signature::coercible(vec![text(), text()], Volatility::Immutable);
        ScalarUDF::new_from_impl(Function { name, signature, less })
    };
    [function("version_compare", false), function("version_lt", true)]
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(if self.less { DataType::Boolean } else { DataType::Int64 })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let [a, b] = take_function_args(self.name, args.args)?;
        let texts = |value: ColumnarValue| -> Result<StringViewArray> {
            let array = value.into_array(rows)?;
            Ok(arrow::compute::cast(&array, &DataType::Utf8View)?.as_string_view().clone())
        };
        let (a, b) = (texts(a)?, texts(b)?);
        let orders = a.iter().zip(b.iter()).map(|(a, b)| Some(compare(a?, b?)));
        let answer: ArrayRef = if self.less {
            Arc::new(orders.map(|order| order.map(Ordering::is_lt)).collect::<BooleanArray>())
        } else {
            Arc::new(orders.map(|order| order.map(|o| o as i64)).collect::<Int64Array>())
        };
        Ok(ColumnarValue::Array(answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each is less than the next.
    const RISING: &[&[&str]] = &[
        &["3.0.9", "3.0.13-1~deb12u1", "3.0.14", "3.0.14-1~deb12u2", "3.0.15", "3.1", "1:0.1"],
        &["1.0~rc1", "1.0-rc1", "1.0", "1.0-1", "1.0^git1", "1.0a", "1.0+dfsg", "1.0.1"],
        &["1.0.dev3", "1.0-nightly", "1.0.0", "1.0.0-1"],
        &["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0"],
        &["1.0.2", "1.0.2a", "1.0.2zb", "1.1.0", "1.1.1", "1.1.1k", "1.1.1w"],
        &["2.9-10", "2.9-11", "2.9.1-1", "2.10-1"],
        &["8.4p1", "8.9p1-3", "8.9p1-3ubuntu0.6", "9.2p1"],
        &["5.14.0-70.el9", "5.14.0-362.el9", "0:6.1", "2:1.0"],
        &["", "0", "00000000000000000000000000001", "99999999999999999999999999999999"],
    ];

    #[test]
    fn versions_rise() {
        for versions in RISING {
            for (n, a) in versions.iter().enumerate() {
                for (m, b) in versions.iter().enumerate() {
                    assert_eq!(compare(a, b), n.cmp(&m), "{a} and {b}");
                }
            }
        }
    }

    #[test]
    fn spelling_that_means_nothing() {
        for (a, b) in
            [("v1.2", "1.2"), (" 1.2 ", "1.2"), ("1.02", "1.2"), ("0:1", "1"), ("1RC1", "1.rc1")]
        {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} and {b}");
        }
    }
}
