use muster_types::Timestamp;
use proptest::prelude::*;

use super::*;

struct Machine {
    labels: Vec<&'static str>,
    online: bool,
}

impl Fields for Machine {
    fn now(&self) -> Timestamp {
        Timestamp(1_000_000_000_000_000)
    }
    fn online(&self) -> bool {
        self.online
    }
    fn endpoint(&self) -> u32 {
        7
    }
    fn time(&self, column: Column) -> Option<Timestamp> {
        let day = i64::from(column == Column::LastSeen);
        Some(Timestamp(self.now().0 - (10 - 9 * day) * Timestamp::DAY_MICROS))
    }
    fn any_text(&self, column: Column, test: &mut dyn FnMut(&str) -> bool) -> Option<bool> {
        let values = match column {
            Column::Platform => vec!["linux"],
            Column::Hostname | Column::Name => vec!["Web-01.example"],
            Column::Label => self.labels.clone(),
            Column::AgentKind => vec!["native", "osquery"],
            _ => Vec::new(),
        };
        if values.is_empty() { None } else { Some(values.into_iter().any(test)) }
    }
}

fn holds(text: &str) -> bool {
    let machine = Machine { labels: vec!["prod", "db"], online: true };
    Condition::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).holds(&machine)
}

#[test]
fn conditions_hold_as_in_sql() {
    for text in [
        "platform = 'linux'",
        "PLATFORM = 'linux' AND \"hostname\" LIKE 'Web-%'",
        "name ILIKE 'web-0_.%' and not name like 'web%'",
        "endpoint = 7 AND endpoint IN (1, 7) AND endpoint BETWEEN 7 AND 9 AND endpoint > -1",
        "label = 'db' AND label IN ('x', 'prod') AND label <> 'test'",
        "agent_kind = 'osquery' AND agent_kind = 'native'",
        "arch IS NULL AND platform IS NOT NULL",
        "NOT (platform = 'windows') AND (online OR false)",
        "online = true AND online != false AND online IS TRUE AND NOT online IS FALSE",
        "last_seen > now() - interval '2 days' AND enrolled_at < now() - interval '1 week'",
        "enrolled_at < '2030-01-01' AND enrolled_at > '1999-12-31T00:00:00+02:00'",
        "last_seen < 1000000000 AND true",
        "hostname LIKE '%.ex%le' AND hostname LIKE '%' AND hostname NOT LIKE '%\\%'",
    ] {
        assert!(holds(text), "{text}");
    }
    for text in [
        "platform != 'linux'",
        "label = 'test' OR label NOT IN ('prod')",
        // NULL is neither true nor false.
        "arch = 'x86_64'",
        "arch != 'x86_64'",
        "NOT arch = 'x86_64'",
        "NOT online",
        "hostname LIKE 'Web'",
        "name = '''quoted'''",
    ] {
        assert!(!holds(text), "{text}");
    }
}

#[test]
fn errors_say_where_and_what_was_meant() {
    for (text, expected) in [
        ("", "character 1: the condition is empty"),
        ("platfrom = 'linux'", "character 1: no column \"platfrom\"; did you mean platform?"),
        ("platform = linux", "character 12: text stands in single quotes: 'linux'"),
        ("platform = 'linux", "character 12: this text has no closing '"),
        ("platform = 'a' platform", "character 16: expected AND, OR or the end, not platform"),
        ("platform", "character 9: expected a comparison such as = or LIKE, not the end"),
        ("(online", "character 8: expected ), not the end"),
        ("endpoint = 'x'", "character 12: expected a whole number, not 'x'"),
        ("last_seen > 'soon'", "character 13: \"soon\" is no time; write '2026-01-31T12:00:00Z'"),
        (
            "last_seen > now() - interval 'x'",
            "character 30: an interval is written like '7 days' or '90 minutes'",
        ),
        ("online; DROP TABLE x", "character 7: ';' means nothing here"),
        ("endpoint LIKE '7'", "character 10: LIKE compares text, and this column is none"),
        ("1 = 1", "character 1: expected a column, not 1"),
    ] {
        let error = Condition::parse(text).expect_err(text);
        assert_eq!(error.to_string(), format!("condition, {expected}"), "{text}");
    }
    assert!(Condition::parse(&"(".repeat(100)).is_err());
    assert!(Condition::parse(&"not ".repeat(40)).unwrap_err().message.contains("deeper"));
    assert!(Condition::parse(&" ".repeat(MAX_BYTES + 1)).is_err());
}

#[test]
fn what_may_change_by_itself_is_known() {
    let volatile = |text: &str| Condition::parse(text).unwrap().is_volatile();
    assert!(volatile("platform = 'linux' AND (NOT online OR label = 'x')"));
    assert!(volatile("enrolled_at > now() - interval '1 day'"));
    assert!(volatile("last_seen > 5"));
    assert!(!volatile("enrolled_at > 5 AND label = 'x'"));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,120}") {
        let _ = Condition::parse(&text);
    }

    #[test]
    fn any_sequence_of_words_is_read_or_refused(
        words in proptest::collection::vec(prop::sample::select(vec![
            "platform", "online", "endpoint", "last_seen", "label", "=", "<", "!=", "LIKE", "IN", "(", ")",
            ",", "'x%_'", "7", "-", "now", "interval", "'1 day'", "AND", "OR", "NOT", "IS", "NULL", "BETWEEN",
        ]), 0..20),
    ) {
        let text = words.join(" ");
        let machine = Machine { labels: Vec::new(), online: false };
        if let Ok(condition) = Condition::parse(&text) {
            condition.holds(&machine);
        }
    }

    #[test]
    fn like_agrees_with_a_plain_definition(pattern in "[ab%_]{0,8}", text in "[ab]{0,8}") {
        fn plain(pattern: &[char], text: &[char]) -> bool {
            match pattern.split_first() {
                None => text.is_empty(),
                Some(('%', rest)) => (0..=text.len()).any(|n| plain(rest, &text[n..])),
                Some(('_', rest)) => !text.is_empty() && plain(rest, &text[1..]),
                Some((c, rest)) => text.first() == Some(c) && plain(rest, &text[1..]),
            }
        }
        let chars = |s: &str| s.chars().collect::<Vec<_>>();
        let expected = plain(&chars(&pattern), &chars(&text));
        prop_assert_eq!(like::Pattern::new(&pattern, false).matches(&text), expected);
    }
}
