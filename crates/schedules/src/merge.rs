//! How fragments become one document.
//!
//! Fragments are laid over one another, the one with the lowest precedence first; of equal
//! precedence the one whose name sorts last goes first, so that the name that sorts first wins. Each
//! is applied as a JSON Merge Patch (RFC 7396): objects are merged member by member, at any depth;
//! everything else, lists included, replaces what was there; `null` takes away what was there. So of
//! two fragments that set `options.logger_tls_period` the stronger one wins, while options that only
//! the weaker one sets stay, and `decorators.load` of the stronger one stands alone.

use serde_json::{Map, Value};

use crate::Fragment;

/// The order in which fragments are applied.
pub(crate) fn sort(fragments: &mut [&Fragment]) {
    fragments.sort_by(|a, b| a.precedence.cmp(&b.precedence).then_with(|| b.name.cmp(&a.name)));
}

/// Lays `patch` over `target` (RFC 7396).
pub fn apply(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.shift_remove(key);
            }
            Value::Object(patch) => {
                let entry = target.entry(key.as_str()).or_insert(Value::Null);
                if !entry.is_object() {
                    *entry = Value::Object(Map::new());
                }
                if let Value::Object(target) = entry {
                    apply(target, patch);
                }
            }
            other => {
                target.insert(key.clone(), other.clone());
            }
        }
    }
}

/// Sorts the members of all objects, so that equal documents have equal bytes: agents apply a
/// document anew when its bytes differ.
pub fn canonical(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.sort_keys();
            object.values_mut().for_each(canonical);
        }
        Value::Array(items) => items.iter_mut().for_each(canonical),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use muster_types::{OrgId, Timestamp};
    use serde_json::json;

    use super::*;
    use crate::Platforms;

    fn fragment(name: &str, precedence: i64, sections: &Value) -> Fragment {
        Fragment {
            no: 1,
            org: OrgId::DEFAULT,
            name: name.to_owned(),
            label: String::new(),
            platforms: Platforms::ALL,
            precedence,
            sections: sections.as_object().unwrap().clone(),
            created_at: Timestamp(0),
            created_by: String::new(),
        }
    }

    fn merged(fragments: &[Fragment]) -> Value {
        let mut order: Vec<&Fragment> = fragments.iter().collect();
        sort(&mut order);
        let mut target = Map::new();
        order.iter().for_each(|fragment| apply(&mut target, &fragment.sections));
        Value::Object(target)
    }

    #[test]
    fn the_higher_precedence_wins_per_key_whatever_the_order_given() {
        let low = fragment("a", 1, &json!({"options": {"x": 1, "y": 1}, "views": {"v": "s"}}));
        let high = fragment("b", 2, &json!({"options": {"x": 2}}));
        let expected = json!({"options": {"x": 2, "y": 1}, "views": {"v": "s"}});
        assert_eq!(merged(&[low.clone(), high.clone()]), expected);
        assert_eq!(merged(&[high, low]), expected);
    }

    #[test]
    fn of_equal_precedence_the_first_name_wins() {
        let a = fragment("a", 0, &json!({"options": {"x": "a"}}));
        let b = fragment("b", 0, &json!({"options": {"x": "b"}}));
        assert_eq!(merged(&[b, a])["options"]["x"], "a");
    }

    #[test]
    fn lists_are_replaced_whole_and_null_takes_away() {
        let low =
            fragment("a", 0, &json!({"decorators": {"load": ["1", "2"]}, "options": {"x": 1}}));
        let high =
            fragment("b", 1, &json!({"decorators": {"load": ["3"]}, "options": {"x": null}}));
        assert_eq!(merged(&[low, high]), json!({"decorators": {"load": ["3"]}, "options": {}}));
    }

    #[test]
    fn canonical_bytes_do_not_depend_on_the_order_of_members() {
        let (mut a, mut b) =
            (json!({"b": {"y": 1, "x": 2}, "a": []}), json!({"a": [], "b": {"x": 2, "y": 1}}));
        canonical(&mut a);
        canonical(&mut b);
        assert_eq!(a.to_string(), b.to_string());
    }
}
