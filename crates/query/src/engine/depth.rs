//! A bound on how deep a text can make a plan, before anything recurses over it.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::Error;

/// Longest text.
const TEXT_MAX: usize = 4 << 20;
/// Each of these makes a plan or an expression one deeper, at worst. Lists do not.
const DEEPER_MAX: usize = 1_000;

/// Refuses a text that is too long or too deep. The parser itself bounds what is nested in
/// parentheses.
pub(super) fn check(sql: &str) -> Result<(), Error> {
    if sql.len() > TEXT_MAX {
        let text = format!("the text has {} bytes; at most {TEXT_MAX} are read", sql.len());
        return Err(Error::Asker(text));
    }
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize();
    let tokens = tokens.map_err(|error| Error::Asker(error.to_string()))?;
    let deeper = tokens.iter().filter(|token| deepens(token)).count();
    if deeper > DEEPER_MAX {
        let text = format!(
            "the text has {deeper} operators and unions; at most {DEEPER_MAX} are taken: write a list \
             (IN), a regular expression, or a join"
        );
        return Err(Error::Asker(text));
    }
    Ok(())
}

fn deepens(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::XOR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::COLLATE
                | Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::INTERSECT
                | Keyword::JOIN
                | Keyword::SELECT
                | Keyword::OVERLAY
        ),
        Token::Comma | Token::Whitespace(_) | Token::LParen | Token::RParen | Token::Period => {
            false
        }
        Token::Number(..) | Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) => false,
        Token::HexStringLiteral(_) | Token::Placeholder(_) | Token::SemiColon | Token::EOF => false,
        // Operators, casts, subscripts.
        _ => true,
    }
}
