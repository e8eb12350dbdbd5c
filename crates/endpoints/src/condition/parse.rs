//! Tokens to a checked expression. Recursive descent of bounded depth.

use super::ast::{COLUMNS, Column, ColumnKind, Expr, Moment, Op};
use super::lex::Token;
use super::like::Pattern;
use super::{ConditionError, MAX_DEPTH};

type Result<T> = std::result::Result<T, ConditionError>;

pub(super) fn parse(tokens: &[(usize, Token)], end: usize) -> Result<Expr> {
    let mut parser = Parser { tokens, next: 0, end, depth: 0 };
    if tokens.is_empty() {
        return Err(parser.error("the condition is empty"));
    }
    let expr = parser.either()?;
    match parser.peek() {
        None => Ok(expr),
        Some(token) => {
            Err(parser.error(format!("expected AND, OR or the end, not {}", token.show())))
        }
    }
}

struct Parser<'a> {
    tokens: &'a [(usize, Token)],
    next: usize,
    end: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn position(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |(at, _)| *at)
    }

    fn error(&self, message: impl Into<String>) -> ConditionError {
        ConditionError::new(self.position(), message)
    }

    fn word(&mut self, wanted: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(word)) if word == wanted);
        self.next += usize::from(found);
        found
    }

    fn punct(&mut self, wanted: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Punct(punct)) if *punct == wanted);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, wanted: &'static str) -> Result<()> {
        let found = if wanted.chars().all(char::is_alphabetic) {
            self.word(&wanted.to_lowercase())
        } else {
            self.punct(wanted)
        };
        if found { Ok(()) } else { Err(self.unexpected(wanted)) }
    }

    fn unexpected(&self, wanted: &str) -> ConditionError {
        let found = self.peek().map_or_else(|| "the end".to_owned(), Token::show);
        self.error(format!("expected {wanted}, not {found}"))
    }

    fn either(&mut self) -> Result<Expr> {
        let mut parts = vec![self.both()?];
        while self.word("or") {
            parts.push(self.both()?);
        }
        Ok(one_or(parts, Expr::Or))
    }

    fn both(&mut self) -> Result<Expr> {
        let mut parts = vec![self.negation()?];
        while self.word("and") {
            parts.push(self.negation()?);
        }
        Ok(one_or(parts, Expr::And))
    }

    fn negation(&mut self) -> Result<Expr> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(format!("nested deeper than {MAX_DEPTH}")));
        }
        let expr = if self.word("not") {
            Expr::Not(Box::new(self.negation()?))
        } else if self.punct("(") {
            let inner = self.either()?;
            self.expect(")")?;
            inner
        } else {
            self.predicate()?
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn predicate(&mut self) -> Result<Expr> {
        if self.word("true") {
            return Ok(Expr::Literal(true));
        }
        if self.word("false") {
            return Ok(Expr::Literal(false));
        }
        let (column, kind) = self.column()?;
        if self.word("is") {
            let not = self.word("not");
            if kind == ColumnKind::Bool && self.word("true") {
                return Ok(negated(Expr::Online, not));
            }
            if kind == ColumnKind::Bool && self.word("false") {
                return Ok(negated(Expr::Online, !not));
            }
            self.expect("NULL")?;
            return Ok(negated(Expr::IsNull(column), not));
        }
        let not = self.word("not");
        if self.word("in") {
            return Ok(negated(self.list(column, kind)?, not));
        }
        if self.word("between") {
            let low = self.comparison(column, kind, Op::Ge)?;
            self.expect("AND")?;
            let high = self.comparison(column, kind, Op::Le)?;
            return Ok(negated(Expr::And(vec![low, high]), not));
        }
        let fold = matches!(self.peek(), Some(Token::Word(word)) if word == "ilike");
        if fold || matches!(self.peek(), Some(Token::Word(word)) if word == "like") {
            if kind != ColumnKind::Text {
                return Err(self.error("LIKE compares text, and this column is none"));
            }
            self.next += 1;
            let pattern = Pattern::new(&self.text()?, fold);
            return Ok(negated(Expr::Like(column, pattern), not));
        }
        if not {
            return Err(self.unexpected("IN, LIKE, ILIKE or BETWEEN"));
        }
        match self.operator() {
            Some(op) => self.comparison(column, kind, op),
            None if kind == ColumnKind::Bool => Ok(Expr::Online),
            None => Err(self.unexpected("a comparison such as = or LIKE")),
        }
    }

    fn column(&mut self) -> Result<(Column, ColumnKind)> {
        let name = match self.peek() {
            Some(Token::Word(name) | Token::Quoted(name)) => name.clone(),
            _ => return Err(self.unexpected("a column")),
        };
        let Some(found) = Column::named(&name) else {
            return Err(self.error(unknown_column(&name)));
        };
        self.next += 1;
        Ok(found)
    }

    fn operator(&mut self) -> Option<Op> {
        let op = match self.peek() {
            Some(Token::Punct("=" | "==")) => Op::Eq,
            Some(Token::Punct("!=" | "<>")) => Op::Ne,
            Some(Token::Punct("<")) => Op::Lt,
            Some(Token::Punct("<=")) => Op::Le,
            Some(Token::Punct(">")) => Op::Gt,
            Some(Token::Punct(">=")) => Op::Ge,
            _ => return None,
        };
        self.next += 1;
        Some(op)
    }

    fn comparison(&mut self, column: Column, kind: ColumnKind, op: Op) -> Result<Expr> {
        match kind {
            ColumnKind::Int => Ok(Expr::Int(op, self.number()?)),
            ColumnKind::Text => Ok(Expr::Text(column, op, self.text()?)),
            ColumnKind::Time => Ok(Expr::Time(column, op, self.moment()?)),
            ColumnKind::Bool => {
                let value = if self.word("true") {
                    true
                } else if self.word("false") {
                    false
                } else {
                    return Err(self.unexpected("true or false"));
                };
                match op {
                    Op::Eq => Ok(negated(Expr::Online, !value)),
                    Op::Ne => Ok(negated(Expr::Online, value)),
                    _ => Err(self.error("online is only ever = or != true or false")),
                }
            }
        }
    }

    fn list(&mut self, column: Column, kind: ColumnKind) -> Result<Expr> {
        self.expect("(")?;
        let (mut texts, mut others) = (Vec::new(), Vec::new());
        loop {
            match kind {
                ColumnKind::Text => texts.push(self.text()?),
                _ => others.push(self.comparison(column, kind, Op::Eq)?),
            }
            if !self.punct(",") {
                break;
            }
        }
        self.expect(")")?;
        Ok(if kind == ColumnKind::Text { Expr::TextIn(column, texts) } else { Expr::Or(others) })
    }

    fn text(&mut self) -> Result<String> {
        match self.peek() {
            Some(Token::Text(text)) => {
                let text = text.clone();
                self.next += 1;
                Ok(text)
            }
            Some(Token::Word(word) | Token::Quoted(word)) => {
                Err(self.error(format!("text stands in single quotes: '{word}'")))
            }
            _ => Err(self.unexpected("text in single quotes")),
        }
    }

    fn number(&mut self) -> Result<i64> {
        let minus = self.punct("-");
        let Some(Token::Number(number)) = self.peek() else {
            return Err(self.unexpected("a whole number"));
        };
        let number = if minus { -number } else { *number };
        self.next += 1;
        Ok(number)
    }

    fn moment(&mut self) -> Result<Moment> {
        if matches!(self.peek(), Some(Token::Punct("-") | Token::Number(_))) {
            return Ok(Moment::At(self.number()?.saturating_mul(1_000_000)));
        }
        if self.word("now") {
            self.expect("(")?;
            self.expect(")")?;
            let minus = self.punct("-");
            if !minus && !self.punct("+") {
                return Ok(Moment::FromNow(0));
            }
            self.expect("INTERVAL")?;
            let at = self.position();
            let micros = interval(&self.text()?).ok_or_else(|| {
                ConditionError::new(at, "an interval is written like '7 days' or '90 minutes'")
            })?;
            return Ok(Moment::FromNow(if minus { -micros } else { micros }));
        }
        let at = self.position();
        let text = self.text()?;
        instant(&text).map(Moment::At).ok_or_else(|| {
            ConditionError::new(at, format!("{text:?} is no time; write '2026-01-31T12:00:00Z'"))
        })
    }
}

fn one_or(mut parts: Vec<Expr>, many: fn(Vec<Expr>) -> Expr) -> Expr {
    if parts.len() == 1 { parts.remove(0) } else { many(parts) }
}

fn negated(expr: Expr, not: bool) -> Expr {
    if not { Expr::Not(Box::new(expr)) } else { expr }
}

fn unknown_column(name: &str) -> String {
    let near = COLUMNS
        .iter()
        .map(|(known, _)| (strsim::damerau_levenshtein(known, name), *known))
        .min()
        .filter(|(distance, known)| *distance <= known.len().div_ceil(3));
    match near {
        Some((_, known)) => format!("no column {name:?}; did you mean {known}?"),
        None => {
            let known: Vec<_> = COLUMNS.iter().map(|(known, _)| *known).collect();
            format!("no column {name:?}; there are {}", known.join(", "))
        }
    }
}

fn instant(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(at.as_microsecond());
    }
    // Without an offset it is UTC; a date is its first moment.
    let civil = text.parse::<jiff::civil::DateTime>().ok()?;
    let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(zoned.timestamp().as_microsecond())
}

fn interval(text: &str) -> Option<i64> {
    let mut words = text.split_whitespace();
    let count: i64 = words.next()?.parse().ok()?;
    let unit = words.next()?.to_lowercase();
    let seconds = match unit.strip_suffix('s').unwrap_or(&unit) {
        "second" => 1,
        "minute" => 60,
        "hour" => 3_600,
        "day" => 86_400,
        "week" => 604_800,
        _ => return None,
    };
    let micros = count.checked_mul(seconds)?.checked_mul(1_000_000)?;
    words.next().is_none().then_some(micros)
}
