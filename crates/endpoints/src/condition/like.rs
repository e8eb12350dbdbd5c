//! `LIKE` patterns: `%` any run, `_` one character, `\` takes the next as it is.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Run,
    One,
    Char(char),
}

/// A prepared pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pieces: Vec<Piece>,
    fold: bool,
}

impl Pattern {
    /// `fold` compares without case (`ILIKE`).
    pub(super) fn new(text: &str, fold: bool) -> Self {
        let mut pieces = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '%' if pieces.last() == Some(&Piece::Run) => {}
                '%' => pieces.push(Piece::Run),
                '_' => pieces.push(Piece::One),
                '\\' => pieces.push(Piece::Char(chars.next().unwrap_or('\\'))),
                c if fold => pieces.extend(c.to_lowercase().map(Piece::Char)),
                c => pieces.push(Piece::Char(c)),
            }
        }
        Self { pieces, fold }
    }

    /// Whether the whole of `text` matches. No recursion; at most length times length steps.
    pub(super) fn matches(&self, text: &str) -> bool {
        let chars: Vec<char> = if self.fold {
            text.chars().flat_map(char::to_lowercase).collect()
        } else {
            text.chars().collect()
        };
        let (mut at, mut piece) = (0, 0);
        // Where to go on when the piece after the last run turns out not to fit.
        let mut retry: Option<(usize, usize)> = None;
        while at < chars.len() {
            match self.pieces.get(piece) {
                Some(Piece::Run) => {
                    retry = Some((at, piece));
                    piece += 1;
                }
                Some(Piece::One) => {
                    at += 1;
                    piece += 1;
                }
                Some(Piece::Char(c)) if *c == chars[at] => {
                    at += 1;
                    piece += 1;
                }
                _ => {
                    let Some((from, run)) = retry else { return false };
                    retry = Some((from + 1, run));
                    at = from + 1;
                    piece = run + 1;
                }
            }
        }
        self.pieces[piece..].iter().all(|piece| *piece == Piece::Run)
    }
}
