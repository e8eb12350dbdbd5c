//! What every command that talks to a server starts from.

use std::io::{IsTerminal, stdout};

use serde_json::{Map, Value};

use super::output::{Format, Printer};
use crate::client::{CliError, Client, Contexts};

/// Most items one list command prints; more is said on standard error.
const LIST_MAX: usize = 100_000;

/// A server and how to print its answers.
pub struct Session {
    /// Talks to it.
    pub client: Client,
    /// Prints its answers.
    pub format: Format,
}

impl Session {
    /// The server of the chosen context.
    pub fn open(context: Option<&str>, format: Format) -> Result<Self, CliError> {
        let contexts = Contexts::load(&Contexts::default_path())?;
        let (_, context) = contexts.select(context)?;
        Ok(Self { client: Client::new(&context)?, format })
    }

    /// Prints every page of a list with these columns (all when empty).
    pub async fn list(
        &self,
        path: &str,
        query: &[(&str, String)],
        columns: &[&str],
    ) -> Result<(), CliError> {
        self.list_with(path, query, columns, |row| row).await
    }

    /// The same, with each row changed for people (programs get it as it is).
    pub async fn list_with(
        &self,
        path: &str,
        query: &[(&str, String)],
        columns: &[&str],
        for_people: impl Fn(Map<String, Value>) -> Map<String, Value>,
    ) -> Result<(), CliError> {
        self.list_some(path, query, columns, |_| true, for_people).await
    }

    /// The same, only those that `kept` says.
    pub async fn list_chosen(
        &self,
        path: &str,
        columns: &[&str],
        kept: impl Fn(&Map<String, Value>) -> bool,
        for_people: impl Fn(Map<String, Value>) -> Map<String, Value>,
    ) -> Result<(), CliError> {
        self.list_some(path, &[], columns, kept, for_people).await
    }

    async fn list_some(
        &self,
        path: &str,
        query: &[(&str, String)],
        columns: &[&str],
        kept: impl Fn(&Map<String, Value>) -> bool,
        for_people: impl Fn(Map<String, Value>) -> Map<String, Value>,
    ) -> Result<(), CliError> {
        let people = self.format == Format::Table;
        let mut printer = Printer::new(self.format, stdout().lock(), self.shown(columns));
        let mut after: Option<String> = None;
        let mut printed = 0;
        loop {
            let mut query: Vec<(&str, String)> = query.to_vec();
            query.push(("limit", "1000".into()));
            query.extend(after.take().map(|after| ("after", after)));
            let page: Value = self.client.get_with(path, &query).await?;
            for item in page["items"].as_array().into_iter().flatten() {
                let row = flat(item);
                if !kept(&row) {
                    continue;
                }
                printer.row(if people { for_people(row) } else { row })?;
                printed += 1;
            }
            after = page["next"].as_str().map(str::to_owned);
            if after.is_none() {
                break;
            }
            if printed >= LIST_MAX {
                eprintln!("more than {LIST_MAX} items; the rest is not shown, narrow it down");
                break;
            }
        }
        Ok(printer.finish()?)
    }

    /// Prints one object.
    pub fn object(&self, value: &Value) -> Result<(), CliError> {
        object(self.format, value)
    }

    /// A sentence for people; programs read the exit code. Standard output is for rows.
    pub fn say(&self, sentence: &str) {
        if self.format == Format::Table {
            eprintln!("{sentence}");
        }
    }

    /// For people a few columns, for programs everything.
    pub fn shown<'a>(&self, columns: &'a [&'a str]) -> &'a [&'a str] {
        match self.format {
            Format::Table | Format::Csv => columns,
            Format::Json | Format::Ndjson => &[],
        }
    }
}

/// Prints one object: a line per member for people, the object itself for programs.
pub fn object(format: Format, value: &Value) -> Result<(), CliError> {
    use std::io::Write;
    let mut out = stdout().lock();
    match format {
        Format::Table => {
            let object = flat(value);
            let width = object.keys().map(|key| key.chars().count()).max().unwrap_or(0);
            for (key, value) in &object {
                let text = super::output::text(Some(value));
                let text = if text.contains('\n') {
                    format!("\n{}", indent(&text))
                } else {
                    super::output::printable(&text)
                };
                writeln!(out, "{key:width$}  {text}")?;
            }
        }
        Format::Ndjson => writeln!(out, "{value}")?,
        Format::Json => writeln!(out, "{value:#}")?,
        Format::Csv => {
            let mut printer = Printer::new(format, out, &[]);
            printer.row(flat(value))?;
            printer.finish()?;
        }
    }
    Ok(())
}

/// An object with lists of plain values joined, so that it fits into cells.
pub fn flat(value: &Value) -> Map<String, Value> {
    let Some(object) = value.as_object() else { return Map::new() };
    let cell = |value: &Value| match value {
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            let words: Vec<String> =
                items.iter().map(|item| super::output::text(Some(item))).collect();
            Value::String(words.join(", "))
        }
        other => other.clone(),
    };
    object.iter().map(|(key, value)| (key.clone(), cell(value))).collect()
}

fn indent(text: &str) -> String {
    let lines = text.trim_end().lines();
    lines.map(|line| format!("    {}\n", super::output::printable(line))).collect()
}

/// Asks a yes-or-no question on the terminal; without one the answer is an error that names `--yes`.
pub fn confirm(question: &str, yes: bool) -> Result<(), CliError> {
    use crate::client::Exit;
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage(format!("{question} Say --yes to go on.")));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(CliError::new(Exit::Cancelled, "nothing was done"))
    }
}
