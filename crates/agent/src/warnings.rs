//! What the operator should know about an answer that is not an error.

use std::sync::{Arc, Mutex, PoisonError};

/// Warnings of one query, each kept once, at most sixteen.
#[derive(Clone, Debug, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    const MAX: usize = 16;

    /// Adds one, unless it is there already or the list is full.
    pub fn add(&self, text: impl Into<String>) {
        let text = text.into();
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if list.len() < Self::MAX && !list.contains(&text) {
            list.push(text);
        }
    }

    /// What was said.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
