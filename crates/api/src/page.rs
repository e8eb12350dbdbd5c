//! Lists: a page at a time, each continuing after a key, so that inserts do not shift it.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::problem::{Problem, Result};

const LIMIT_DEFAULT: u32 = 100;
const LIMIT_MAX: u32 = 1_000;

/// Which page.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// At most this many items, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<u32>,
    /// `next` of the page before.
    pub after: Option<String>,
}

impl PageQuery {
    /// How many items to answer.
    ///
    /// # Errors
    /// When it is not within 1 to 1000.
    pub fn limit(&self) -> Result<u32> {
        limit(self.limit)
    }

    /// The number to continue after; `start` for the first page.
    ///
    /// # Errors
    /// When it is no cursor of ours.
    pub fn after_number(&self, start: i64) -> Result<i64> {
        after_number(self.after.as_deref(), start)
    }

    /// The page of a list that was read whole, in the order of its names.
    ///
    /// # Errors
    /// As [`PageQuery::limit`].
    pub fn of_named<T>(
        &self,
        all: impl IntoIterator<Item = T>,
        name: impl Fn(&T) -> &str,
    ) -> Result<Page<T>> {
        let limit = self.limit()?;
        let after = self.after.as_deref().unwrap_or_default();
        let found = all.into_iter().filter(|item| name(item) > after).take(limit as usize + 1);
        Ok(Page::cut(found.collect(), limit, |item| name(item).to_owned()))
    }

    /// The page of a list that was read whole, in the order of its numbers.
    ///
    /// # Errors
    /// As [`PageQuery::limit`] and [`PageQuery::after_number`].
    pub fn of_numbered<T>(
        &self,
        all: impl IntoIterator<Item = T>,
        number: impl Fn(&T) -> i64,
    ) -> Result<Page<T>> {
        let (limit, after) = (self.limit()?, self.after_number(0)?);
        let found = all.into_iter().filter(|item| number(item) > after).take(limit as usize + 1);
        Ok(Page::cut(found.collect(), limit, |item| number(item).to_string()))
    }
}

/// Checks a page size.
pub(crate) fn limit(asked: Option<u32>) -> Result<u32> {
    match asked {
        None => Ok(LIMIT_DEFAULT),
        Some(n) if (1..=LIMIT_MAX).contains(&n) => Ok(n),
        Some(n) => Err(Problem::invalid("limit", format!("limit is {n}; take 1 to {LIMIT_MAX}"))),
    }
}

/// Reads a cursor that is a number.
pub(crate) fn after_number(cursor: Option<&str>, start: i64) -> Result<i64> {
    let Some(text) = cursor else { return Ok(start) };
    text.parse().map_err(|_| {
        Problem::invalid("after", format!("{text:?} is no cursor; take `next` of the page before"))
    })
}

/// Part of a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Pass it as `after` for the next page; missing on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A page of what was read with one item more than `limit`, which tells whether more follow.
    pub fn cut(mut items: Vec<T>, limit: u32, key: impl Fn(&T) -> String) -> Self {
        let limit = limit as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = more.then(|| items.last().map(key)).flatten();
        Self { items, next }
    }

    /// A whole list in one page.
    pub fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }

    /// The same page with other items.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), next: self.next }
    }
}
