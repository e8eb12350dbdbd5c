//! `/artifacts`: the built-in ones and those people wrote.

use axum::extract::State;
use http::StatusCode;
use muster_artifact::{
    Artifact as Model, ParseError, builtin, builtin_yaml, check_new, find_builtin, parse,
};
use muster_catalog::{Row, args, statements};
use muster_types::{OrgId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::caller::Caller;
use crate::extract::{Json, Path, Query};
use crate::page::{self, Page};
use crate::problem::{Code, Fault, Problem, Result};
use crate::state::ApiState;
use crate::time::Time;

/// Artifacts one organisation may write itself.
const OWN_MAX: i64 = 10_000;

statements! {
    LIST = "
        SELECT name, yaml, created_at, created_by
        FROM artifact
        WHERE org = $1 AND name > $2 AND deleted_at IS NULL
        ORDER BY name
        LIMIT $3";
    GET = "
        SELECT name, yaml, created_at, created_by
        FROM artifact
        WHERE org = $1 AND name = $2 AND deleted_at IS NULL";
    PUT = "
        INSERT INTO artifact (org, name, yaml, created_at, created_by, deleted_at, change)
        VALUES ($1, $2, $3, $4, $5, NULL, $6)
        ON CONFLICT (org, name) DO UPDATE
        SET yaml = excluded.yaml,
            created_at = excluded.created_at,
            created_by = excluded.created_by,
            deleted_at = NULL,
            change = excluded.change";
    DELETE = "
        UPDATE artifact SET deleted_at = $3, change = $4
        WHERE org = $1 AND name = $2 AND deleted_at IS NULL";
    COUNT = "SELECT COUNT(*) AS n FROM artifact WHERE org = $1";
    /// Schedules are made by people: some hundreds.
    small SCHEDULED = "
        SELECT name FROM schedule
        WHERE org = $1 AND artifact = $2 AND deleted_at IS NULL
        ORDER BY name
        LIMIT 1";
}

/// A definition of what to collect.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Artifact {
    /// Its name.
    pub name: String,
    /// A few words.
    pub title: String,
    /// What it collects and what a hunter looks for in it.
    pub description: String,
    /// Comes with the server.
    pub built_in: bool,
    /// Agent kinds that can run it.
    pub agent_kinds: Vec<String>,
    /// What it is written for: `linux`, `darwin`, `windows`; none means all.
    pub platforms: Vec<String>,
    /// The table its rows are in, in SQL.
    pub table: String,
    /// Values a run may give.
    #[schema(value_type = Vec<Object>)]
    pub parameters: Vec<serde_json::Value>,
    /// Columns of its rows.
    #[schema(value_type = Vec<Object>)]
    pub columns: Vec<serde_json::Value>,
    /// When it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// The text; in lists it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yaml: Option<String>,
}

fn values<T: Serialize>(items: &[T]) -> Vec<serde_json::Value> {
    items.iter().filter_map(|item| serde_json::to_value(item).ok()).collect()
}

fn view(model: &Model, built_in: bool) -> Artifact {
    Artifact {
        name: model.name.clone(),
        title: model.title.clone(),
        description: model.description.clone(),
        built_in,
        agent_kinds: model.sources.keys().map(ToString::to_string).collect(),
        platforms: model.platforms.iter().map(|one| one.as_str().to_owned()).collect(),
        table: model.table_name(),
        parameters: values(&model.parameters),
        columns: values(&model.columns),
        created_at: None,
        created_by: None,
        yaml: None,
    }
}

fn of_row(row: &Row) -> Result<(Model, Artifact)> {
    let yaml: String = row.get("yaml")?;
    // It was checked when it was stored; a newer version may be stricter.
    let model = parse(&yaml).map_err(Problem::internal)?;
    let artifact = Artifact {
        created_at: Some(row.get::<Timestamp>("created_at")?.into()),
        created_by: Some(row.get("created_by")?),
        yaml: Some(yaml),
        ..view(&model, false)
    };
    Ok((model, artifact))
}

/// The artifact of a name: one that people wrote, else a built-in one.
pub(crate) async fn find(state: &ApiState, org: OrgId, name: &str) -> Result<Option<Model>> {
    if let Some(row) = state.catalog.fetch_optional(&GET, args![org, name]).await? {
        return parse(&row.get::<String>("yaml")?).map(Some).map_err(Problem::internal);
    }
    Ok(find_builtin(name).cloned())
}

/// Which artifacts to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ArtifactQuery {
    /// Those meant for this platform.
    #[param(example = "windows")]
    platform: Option<String>,
    /// A part of the name, title or description; case does not matter.
    search: Option<String>,
    /// At most this many items, 1 to 1000.
    limit: Option<u32>,
    /// `next` of the page before.
    after: Option<String>,
}

impl ArtifactQuery {
    fn wants(&self, model: &Model) -> bool {
        let word = self.search.as_deref().map(str::to_lowercase);
        let texts = [&model.name, &model.title, &model.description];
        self.platform.as_deref().is_none_or(|platform| model.is_for(platform))
            && word.is_none_or(|word| texts.iter().any(|text| text.to_lowercase().contains(&word)))
    }
}

/// Artifacts, by name.
#[utoipa::path(get, path = "/artifacts", operation_id = "artifacts.list", tag = "artifacts",
    params(ArtifactQuery), responses((status = OK, body = Page<Artifact>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<ArtifactQuery>,
) -> Result<axum::Json<Page<Artifact>>> {
    let limit = page::limit(query.limit)?;
    let after = query.after.as_deref().unwrap_or_default();
    // All that follow, since what is not wanted must not end the list; people write few.
    let args = args![caller.principal.org, after, OWN_MAX];
    let mut all = Vec::new();
    for row in state.catalog.fetch_all(&LIST, args).await? {
        let (model, artifact) = of_row(&row)?;
        if query.wants(&model) {
            all.push(Artifact { yaml: None, ..artifact });
        }
    }
    let built_in = builtin().iter().filter(|model| model.name.as_str() > after);
    all.extend(built_in.filter(|model| query.wants(model)).map(|model| view(model, true)));
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(axum::Json(Page::cut(all, limit, |artifact| artifact.name.clone())))
}

/// One artifact.
#[utoipa::path(get, path = "/artifacts/{name}", operation_id = "artifacts.get",
    tag = "artifacts", params(("name" = String, Path)), responses((status = OK, body = Artifact)))]
pub(crate) async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<axum::Json<Artifact>> {
    let row = state.catalog.fetch_optional(&GET, args![caller.principal.org, &name]).await?;
    let found = match (row, find_builtin(&name)) {
        (Some(row), _) => of_row(&row)?.1,
        (None, Some(model)) => {
            let yaml = builtin_yaml(&name).map(str::to_owned);
            Artifact { yaml, ..view(model, true) }
        }
        (None, None) => return Err(missing(&name)),
    };
    Ok(axum::Json(found))
}

/// An artifact to be stored.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewArtifact {
    /// The YAML document.
    yaml: String,
}

/// Stores an artifact; an earlier one of that name is replaced, hunts that ran it keep theirs.
#[utoipa::path(post, path = "/artifacts", operation_id = "artifacts.create", tag = "artifacts",
    request_body = NewArtifact, responses((status = CREATED, body = Artifact)))]
pub(crate) async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    Json(new): Json<NewArtifact>,
) -> Result<(StatusCode, axum::Json<Artifact>)> {
    let model = parse(&new.yaml).and_then(|model| check_new(&model).map(|()| model));
    let model = model.map_err(|error| refused(&new.yaml, &error))?;
    if find_builtin(&model.name).is_some() {
        let detail = format!("{} comes with the server; take another name", model.name);
        return Err(Problem::new(Code::Conflict, detail));
    }
    let (org, by, now) = (caller.principal.org, &caller.principal.name, caller.now());
    let mut tx = state.begin().await?;
    let change = tx.bump("artifact").await?;
    if tx.fetch_one(&COUNT, args![org]).await?.get::<i64>("n")? >= OWN_MAX {
        let detail = format!("there are {OWN_MAX} artifacts; delete some that are not used");
        return Err(Problem::new(Code::Conflict, detail));
    }
    tx.execute(&PUT, args![org, &model.name, &new.yaml, now, by, change]).await?;
    caller.record(&mut tx, format!("artifact/{}", model.name), json!({})).await?;
    tx.commit().await?;
    let stored = Artifact {
        created_at: Some(now.into()),
        created_by: Some(by.clone()),
        yaml: Some(new.yaml),
        ..view(&model, false)
    };
    Ok((StatusCode::CREATED, axum::Json(stored)))
}

/// Deletes an artifact that people wrote. Results stay.
#[utoipa::path(delete, path = "/artifacts/{name}", operation_id = "artifacts.delete",
    tag = "artifacts", params(("name" = String, Path)), responses((status = NO_CONTENT)))]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode> {
    let mut tx = state.begin().await?;
    let change = tx.bump("artifact").await?;
    if let Some(row) = tx.fetch_optional(&SCHEDULED, args![caller.principal.org, &name]).await? {
        let schedule: String = row.get("name")?;
        let detail = format!("the schedule {schedule:?} runs {name}; delete that first");
        return Err(Problem::new(Code::Conflict, detail));
    }
    let args = args![caller.principal.org, &name, caller.now(), change];
    if tx.execute(&DELETE, args).await? == 0 {
        if find_builtin(&name).is_some() {
            let detail = format!("{name} comes with the server and stays");
            return Err(Problem::new(Code::Conflict, detail));
        }
        return Err(missing(&name));
    }
    caller.record(&mut tx, format!("artifact/{name}"), json!({})).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn missing(name: &str) -> Problem {
    Problem::not_found(format_args!("artifact {name:?}"))
}

fn refused(yaml: &str, error: &ParseError) -> Problem {
    let message = error.to_string();
    let fault = match error {
        ParseError::Yaml { line, .. } => Fault {
            at: "/yaml".into(),
            line: line.and_then(|line| u32::try_from(line).ok()),
            message: message.clone(),
        },
        ParseError::Invalid { field, .. } => {
            Fault { at: field.clone(), line: line_of(yaml, field), message: message.clone() }
        }
        ParseError::TooLong(_) => {
            Fault { at: "/yaml".into(), line: None, message: message.clone() }
        }
    };
    Problem::new(Code::InvalidArtifact, message).with_faults(vec![fault])
}

/// The line a field such as `parameters[1].type` is on, by following its names downwards.
fn line_of(yaml: &str, field: &str) -> Option<u32> {
    let names = field.split(['.', '[', ']', ' ']).filter(|name| !name.is_empty());
    let mut found = None;
    let mut rest = yaml.lines().zip(1u32..);
    for name in names {
        let (key, wanted) = match name.parse::<usize>() {
            Ok(index) => ("-".to_owned(), index),
            Err(_) => (format!("{name}:"), 0),
        };
        let is_key = |line: &str| {
            let line = line.trim_start();
            line.starts_with(&key) || line.trim_start_matches("- ").starts_with(&key)
        };
        let Some((_, line)) = rest.by_ref().filter(|(line, _)| is_key(line)).nth(wanted) else {
            break;
        };
        found = Some(line);
    }
    found
}
