//! What is generated from the model: JSON schema, sample file, and the effective configuration.

use super::model::Config;

/// The JSON schema of the configuration file.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Config).to_value();
    // The default depends on who asks; the schema must not.
    if let Some(data_dir) = schema.pointer_mut("/properties/data_dir/default") {
        *data_dir = "/var/lib/muster".into();
    }
    schema
}

/// A commented file with every key at its default.
pub fn sample() -> String {
    let config = Config { data_dir: "/var/lib/muster".into(), ..Config::default() };
    let schema = schema();
    let value = serde_json::to_value(&config).expect("the configuration is plain data");
    let mut out = String::from(
        "# Muster configuration: every key with its default. Delete what you do not change.\n\
         # The environment wins over this file (MUSTER_LOG__LEVEL=debug), flags win over both.\n",
    );
    write_keys(&mut out, &value, &schema, &schema, 0);
    out
}

/// The effective configuration as YAML, without passwords.
pub fn redacted_yaml(config: &Config) -> String {
    let mut value = serde_json::to_value(config).expect("the configuration is plain data");
    muster_telemetry::redact::redact(&mut value);
    serde_norway::to_string(&value).expect("the configuration is plain data")
}

fn write_keys(
    out: &mut String,
    value: &serde_json::Value,
    schema: &serde_json::Value,
    root: &serde_json::Value,
    depth: usize,
) {
    let Some(object) = value.as_object() else { return };
    let indent = "  ".repeat(depth);
    for (key, value) in object {
        let property = &schema["properties"][key.as_str()];
        let target =
            property["$ref"].as_str().and_then(|r| root.pointer(r.trim_start_matches('#')));
        let description = property["description"].as_str().unwrap_or_default();
        if depth == 0 {
            out.push('\n');
        }
        for line in description.lines().filter(|line| !line.is_empty()) {
            out.push_str(&format!("{indent}# {line}\n"));
        }
        match target {
            Some(target) if value.is_object() => {
                out.push_str(&format!("{indent}{key}:\n"));
                write_keys(out, value, target, root, depth + 1);
            }
            _ => out.push_str(&format!("{indent}{key}: {value}\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_sample_is_read_back_as_the_defaults() {
        let read: Config = serde_norway::from_str(&sample()).unwrap();
        let default = Config { data_dir: "/var/lib/muster".into(), ..Config::default() };
        assert_eq!(serde_json::to_value(read).unwrap(), serde_json::to_value(default).unwrap());
    }

    #[test]
    fn generated_files_are_fresh() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference");
        let schema = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
        for (file, text) in [("muster.schema.json", schema), ("muster.yaml", sample())] {
            let path = format!("{dir}/{file}");
            if std::env::var_os("MUSTER_REGENERATE").is_some() {
                std::fs::create_dir_all(dir).unwrap();
                std::fs::write(&path, &text).unwrap();
            }
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(kept == text, "{path} is stale; run `cargo xtask generate`");
        }
    }

    /// Every place of the model that holds text, with its path.
    fn texts(schema: &Value, root: &Value, path: &[String], found: &mut Vec<Vec<String>>) {
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            let mut path = path.to_vec();
            path.push(key.clone());
            let all = [&property["$ref"], &property["anyOf"][0]["$ref"]];
            let target = all.into_iter().find_map(|reference| reference.as_str());
            let target = target.and_then(|r| root.pointer(r.trim_start_matches('#')));
            match target {
                Some(inner) if inner["properties"].is_object() => texts(inner, root, &path, found),
                _ => found.push(path),
            }
        }
    }

    #[test]
    fn no_place_of_the_model_shows_a_secret() {
        let (schema, mut places) = (schema(), Vec::new());
        texts(&schema, &schema, &[], &mut places);
        assert!(places.len() > 30, "the model is walked: {places:?}");
        let mut planted = serde_json::to_value(Config::default()).unwrap();
        for (n, place) in places.iter().enumerate() {
            let pointer = format!("/{}", place.join("/"));
            let Some(value) = planted.pointer_mut(&pointer) else { continue };
            let secret = muster_telemetry::redact::is_secret_name(place.last().unwrap());
            // Where a secret is kept is no secret; an address may hold one wherever it stands.
            *value = match secret {
                true => format!("hunter2-{n}").into(),
                false => format!("nats://user:hunter2-{n}@host:4222").into(),
            };
        }
        muster_telemetry::redact::redact(&mut planted);
        let text = planted.to_string();
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("user:***@host"), "{text}");
    }

    #[test]
    fn passwords_are_not_shown() {
        let mut config = Config::default();
        config.catalog.url = Some("postgres://muster:hunter2@db/muster".into());
        config.catalog.replicas = vec!["postgres://muster:hunter2@replica/muster".into()];
        let shown = redacted_yaml(&config);
        assert!(!shown.contains("hunter2") && shown.contains("muster:***@db"), "{shown}");
    }
}
