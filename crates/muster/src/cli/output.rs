//! Printing rows: a table for people, JSON, NDJSON or CSV for programs.

use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::{Map, Value};

/// How answers are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns.
    #[default]
    Table,
    /// One JSON array (or object).
    Json,
    /// One JSON object per line.
    Ndjson,
    /// RFC 4180, with a header; cells that a spreadsheet would run are made inert.
    Csv,
}

/// Widest a column of a table may be before it is cut, unless it is the last one.
const MAX_CELL_CHARS: usize = 60;

/// Rows as they are printed: streamed for NDJSON and, as long as all have the same columns, CSV; gathered for
/// the others.
pub struct Printer<W: Write> {
    format: Format,
    out: W,
    columns: Vec<String>,
    fixed: bool,
    rows: Vec<Map<String, Value>>,
    /// Rows differ in their columns, all of which a CSV's header has to name.
    varied: bool,
    csv_header_written: bool,
}

impl<W: Write> Printer<W> {
    /// Prints to `out`. With `columns` only these are shown, in this order; else what the rows have,
    /// in the order they first appear.
    pub fn new(format: Format, out: W, columns: &[&str]) -> Self {
        Self {
            format,
            out,
            columns: columns.iter().map(ToString::to_string).collect(),
            fixed: !columns.is_empty(),
            rows: Vec::new(),
            varied: false,
            csv_header_written: false,
        }
    }

    /// The same for rows that do not all have the same columns: CSV is gathered too.
    #[must_use]
    pub fn varied(mut self) -> Self {
        self.varied = true;
        self
    }

    /// One row.
    pub fn row(&mut self, row: Map<String, Value>) -> io::Result<()> {
        if !self.fixed && !self.csv_header_written {
            for name in row.keys() {
                if !self.columns.contains(name) {
                    self.columns.push(name.clone());
                }
            }
        }
        match self.format {
            Format::Ndjson => {
                serde_json::to_writer(&mut self.out, &row)?;
                writeln!(self.out)
            }
            Format::Csv if !self.varied => self.csv_row(&row),
            Format::Csv | Format::Table | Format::Json => {
                self.rows.push(row);
                Ok(())
            }
        }
    }

    /// Prints what was gathered.
    pub fn finish(mut self) -> io::Result<()> {
        match self.format {
            Format::Table => self.table()?,
            Format::Json => {
                serde_json::to_writer_pretty(&mut self.out, &self.rows)?;
                writeln!(self.out)?;
            }
            Format::Csv => {
                if !self.csv_header_written && self.fixed {
                    self.csv_header()?;
                }
                for row in std::mem::take(&mut self.rows) {
                    self.csv_row(&row)?;
                }
            }
            Format::Ndjson => {}
        }
        self.out.flush()
    }

    fn csv_header(&mut self) -> io::Result<()> {
        self.csv_header_written = true;
        let mut writer = csv::Writer::from_writer(&mut self.out);
        writer.write_record(&self.columns)?;
        writer.flush()
    }

    fn csv_row(&mut self, row: &Map<String, Value>) -> io::Result<()> {
        if !self.csv_header_written {
            self.csv_header()?;
        }
        let cells = self.columns.iter().map(|name| inert(text(row.get(name))));
        let mut writer = csv::Writer::from_writer(&mut self.out);
        writer.write_record(cells)?;
        writer.flush()
    }

    fn table(&mut self) -> io::Result<()> {
        let last = self.columns.len().saturating_sub(1);
        let cell = |row: &Map<String, Value>, i: usize, name: &String| {
            let shown = printable(&text(row.get(name)));
            if i == last { shown } else { shorten(&shown) }
        };
        let cells: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| {
                self.columns.iter().enumerate().map(|(i, name)| cell(row, i, name)).collect()
            })
            .collect();
        let numeric = |i: usize| {
            let mut values = self.rows.iter().filter_map(|row| row.get(&self.columns[i]));
            let mut values = values.by_ref().filter(|value| !value.is_null()).peekable();
            values.peek().is_some() && values.all(Value::is_number)
        };
        // Names of columns come from endpoints, too.
        let headers: Vec<String> =
            self.columns.iter().map(|name| printable(name).to_uppercase()).collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|i| {
                let header = headers[i].chars().count();
                cells.iter().map(|row| row[i].chars().count()).fold(header, usize::max)
            })
            .collect();
        let right: Vec<bool> = (0..self.columns.len()).map(numeric).collect();
        for row in std::iter::once(&headers).chain(&cells) {
            let mut line = String::new();
            for (i, value) in row.iter().enumerate() {
                let pad = widths[i] - value.chars().count();
                let (before, after) = if right[i] { (pad, 0) } else { (0, pad) };
                line.extend(std::iter::repeat_n(' ', before));
                line.push_str(value);
                line.extend(std::iter::repeat_n(' ', after + 2));
            }
            writeln!(self.out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A cell as text; NULL is empty.
pub fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// What an endpoint sent may hold terminal escapes; they are shown, not obeyed.
pub fn printable(text: &str) -> String {
    if !text.chars().any(is_deceptive) {
        return text.to_owned();
    }
    text.chars().flat_map(|c| if is_deceptive(c) { escaped(c) } else { vec![c] }).collect()
}

/// Control characters, and those that turn the direction of writing.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(c: char) -> Vec<char> {
    c.escape_unicode().collect()
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= MAX_CELL_CHARS {
        return text.to_owned();
    }
    text.chars().take(MAX_CELL_CHARS - 1).chain(['…']).collect()
}

/// A spreadsheet runs cells that begin with these; a quote in front makes them text.
fn inert(cell: String) -> String {
    let starts = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if starts && cell.parse::<f64>().is_err() { format!("'{cell}") } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(format: Format, columns: &[&str], rows: &Value) -> String {
        let mut out = Vec::new();
        let mut printer = Printer::new(format, &mut out, columns);
        for row in rows.as_array().unwrap() {
            printer.row(row.as_object().unwrap().clone()).unwrap();
        }
        printer.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_format() {
        let rows = serde_json::json!([
            {"pid": 1, "name": "init", "cmd": null},
            {"pid": 31337, "name": "=cmd()", "cmd": "a\u{1b}[31m, \"b\""},
        ]);
        let shown: Vec<String> = [Format::Table, Format::Json, Format::Ndjson, Format::Csv]
            .into_iter()
            .map(|format| print(format, &[], &rows))
            .collect();
        insta::assert_snapshot!(shown.join("---\n"));
    }

    #[test]
    fn a_csv_of_varied_rows_has_all_their_columns() {
        let mut out = Vec::new();
        let mut printer = Printer::new(Format::Csv, &mut out, &[]).varied();
        for row in [serde_json::json!({"a": 1, "b": 2}), serde_json::json!({"b": 3, "c": 4})] {
            printer.row(row.as_object().unwrap().clone()).unwrap();
        }
        printer.finish().unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a,b,c\n1,2,\n,3,4\n");
    }

    #[test]
    fn no_rows_still_have_a_header_when_the_columns_are_known() {
        let none = serde_json::json!([]);
        assert_eq!(print(Format::Csv, &["a", "b"], &none), "a,b\n");
        assert_eq!(print(Format::Json, &["a"], &none), "[]\n");
    }
}
