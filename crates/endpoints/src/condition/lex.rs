//! Characters to tokens.

use super::ConditionError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A bare word, in lower case: keyword or column.
    Word(String),
    /// A column in double quotes.
    Quoted(String),
    Text(String),
    Number(i64),
    Punct(&'static str),
}

impl Token {
    /// As a person would write it.
    pub(super) fn show(&self) -> String {
        match self {
            Self::Word(word) => word.clone(),
            Self::Quoted(name) => format!("\"{name}\""),
            Self::Text(text) => format!("'{text}'"),
            Self::Number(number) => number.to_string(),
            Self::Punct(punct) => (*punct).to_owned(),
        }
    }
}

/// Longer ones first.
const PUNCTS: [&str; 13] = ["<=", ">=", "<>", "!=", "==", "=", "<", ">", "(", ")", ",", "+", "-"];

/// Tokens, each with the position of its first character, counted from 1.
pub(super) fn lex(text: &str) -> Result<Vec<(usize, Token)>, ConditionError> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut i = 0;
    while let Some(&c) = chars.get(i) {
        let start = i;
        if c.is_whitespace() {
            i += 1;
            continue;
        }
        let token = if c == '\'' {
            Token::Text(quoted(&chars, &mut i, '\'', "text")?)
        } else if c == '"' {
            Token::Quoted(quoted(&chars, &mut i, '"', "name")?)
        } else if c.is_ascii_digit() {
            number(&chars, &mut i)?
        } else if c.is_alphabetic() || c == '_' {
            while chars.get(i).is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '.')) {
                i += 1;
            }
            Token::Word(chars[start..i].iter().collect::<String>().to_lowercase())
        } else {
            let found = PUNCTS.into_iter().find(|punct| {
                punct.chars().enumerate().all(|(at, p)| chars.get(start + at) == Some(&p))
            });
            let Some(punct) = found else {
                return Err(ConditionError::new(start + 1, format!("{c:?} means nothing here")));
            };
            i += punct.len();
            Token::Punct(punct)
        };
        tokens.push((start + 1, token));
    }
    Ok(tokens)
}

/// Text up to the closing quote; a doubled quote stands for one.
fn quoted(
    chars: &[char],
    i: &mut usize,
    quote: char,
    what: &str,
) -> Result<String, ConditionError> {
    let start = *i;
    let mut text = String::new();
    *i += 1;
    while let Some(&c) = chars.get(*i) {
        *i += 1;
        if c != quote {
            text.push(c);
        } else if chars.get(*i) == Some(&quote) {
            text.push(c);
            *i += 1;
        } else {
            return Ok(text);
        }
    }
    Err(ConditionError::new(start + 1, format!("this {what} has no closing {quote}")))
}

fn number(chars: &[char], i: &mut usize) -> Result<Token, ConditionError> {
    let start = *i;
    while chars.get(*i).is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.')) {
        *i += 1;
    }
    let text: String = chars[start..*i].iter().collect();
    let wrong = |_| ConditionError::new(start + 1, format!("{text:?} is no whole number"));
    text.parse().map(Token::Number).map_err(wrong)
}
