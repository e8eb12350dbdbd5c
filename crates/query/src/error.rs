//! What goes wrong, and whose fault it is.

use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The asker can do something about it; the text says what.
    #[error("{0}")]
    Asker(String),
    /// The query needs more memory than it may have.
    #[error("out of memory: {0}")]
    Memory(String),
    /// The catalog failed.
    #[error("the catalog")]
    Catalog(#[from] muster_catalog::Error),
    /// The archive failed.
    #[error("the archive")]
    Archive(#[from] muster_archive::Error),
    /// The engine failed.
    #[error("the query engine")]
    Engine(#[source] Box<DataFusionError>),
    /// The answer could not be passed on.
    #[error("writing the answer")]
    Output(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Whether the asker, not we, is at fault.
    #[must_use]
    pub fn is_asker(&self) -> bool {
        matches!(self, Self::Asker(_))
    }

    /// Whether a store is away, so that the same question may be answered soon.
    #[must_use]
    pub fn is_away(&self) -> bool {
        match self {
            Self::Catalog(error) => error.is_retryable(),
            Self::Archive(error) => error.is_retryable(),
            // What a scan met comes back as the engine's error, with ours somewhere behind it.
            Self::Engine(error) => is_away_behind(&**error),
            _ => false,
        }
    }

    /// The error with everything behind it.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(source) = next {
            text.push_str(": ");
            text.push_str(&source.to_string());
            next = source.source();
        }
        text
    }
}

/// Whether a store that is away is the cause of an error.
fn is_away_behind(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(archive) = error.downcast_ref::<muster_archive::Error>() {
            return archive.is_retryable();
        }
        if let Some(catalog) = error.downcast_ref::<muster_catalog::Error>() {
            return catalog.is_retryable();
        }
        next = error.source();
    }
    false
}

/// Our own errors travel through the engine.
impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        match error {
            Error::Engine(error) => *error,
            error => Self::External(Box::new(error)),
        }
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        use DataFusionError as E;
        match error {
            E::Context(_, inner) | E::Diagnostic(_, inner) => Self::from(*inner),
            E::Collection(mut errors) if !errors.is_empty() => Self::from(errors.swap_remove(0)),
            E::External(inner) => match inner.downcast::<Self>() {
                Ok(ours) => *ours,
                Err(other) => Self::Engine(Box::new(E::External(other))),
            },
            E::ResourcesExhausted(_) => {
                Self::Memory("the query needs more than it may have".to_owned())
            }
            E::SQL(error, _) => Self::Asker(error.to_string()),
            E::SchemaError(error, _) => Self::Asker(schema_error(&error)),
            E::Plan(text) | E::NotImplemented(text) | E::Execution(text) => {
                Self::Asker(tidy(&text))
            }
            E::ArrowError(error, _) if is_about_values(&error) => Self::Asker(error.to_string()),
            error if matches!(error.find_root(), E::Shared(_)) => Self::Engine(Box::new(error)),
            error => match error.find_root() {
                E::ResourcesExhausted(_) => {
                    Self::Memory("the query needs more than it may have".to_owned())
                }
                E::Plan(text) | E::Execution(text) => Self::Asker(tidy(text)),
                E::ArrowError(inner, _) if is_about_values(inner) => Self::Asker(inner.to_string()),
                _ => Self::Engine(Box::new(error)),
            },
        }
    }
}

fn is_about_values(error: &ArrowError) -> bool {
    use ArrowError as A;
    matches!(
        error,
        A::CastError(_)
            | A::ParseError(_)
            | A::InvalidArgumentError(_)
            | A::ComputeError(_)
            | A::DivideByZero
            | A::ArithmeticOverflow(_)
    )
}

/// The engine's words without the engine's name.
fn tidy(text: &str) -> String {
    text.replace("muster.public.", "").trim_start_matches("Error during planning: ").to_owned()
}

fn schema_error(error: &SchemaError) -> String {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let known: Vec<&str> = valid_fields.iter().map(|column| column.name()).collect();
            let hint = nearest(field.name(), known.iter().copied());
            let hint = hint.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
            format!("there is no column {:?}{hint}", field.flat_name())
        }
        other => tidy(&other.to_string()),
    }
}

/// The known word that is most like this one, if any is.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let distance =
        |known: &'a str| (strsim::damerau_levenshtein(&known.to_lowercase(), &word), known);
    let near = known.map(distance).min()?;
    (near.0 <= near.1.len().div_ceil(3)).then_some(near.1)
}
