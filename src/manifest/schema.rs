//! JSON Schema of fprefix.toml, for editors.

use anyhow::Result;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{Schema, SchemaGenerator};
use serde_json::{Value, json};

use crate::manifest::tables::Tables;

/// Returns the JSON Schema (draft 2020-12) of fprefix.toml.
///
/// # Errors
///
/// Fails if the schema cannot be written as JSON.
pub(crate) fn schema() -> Result<Value> {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let settings = settings.with_transform(RecursiveTransform(RemoveNull));
    let schema = SchemaGenerator::new(settings).into_root_schema_for::<Tables>();
    Ok(serde_json::to_value(schema)?)
}

/// Table of fprefix.toml, for its reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableReference {
    /// Name of the table.
    pub name: String,
    /// Description of the table.
    pub description: String,
    /// Keys, in alphabetical order.
    pub keys: Vec<KeyReference>,
}

/// Key of a table, for its reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyReference {
    /// Key and syntax of its value, like `board = "BOARD"`.
    pub line: String,
    /// Description of the value.
    pub description: String,
    /// True if the key must be there.
    pub is_required: bool,
}

/// Tables of fprefix.toml, in their usual order.
const TABLES: &[&str] = &["prefix", "trees", "emerge", "check", "pack"];

/// Returns the reference of all tables.
///
/// # Errors
///
/// Fails if the schema cannot be written as JSON.
pub(crate) fn reference() -> Result<Vec<TableReference>> {
    let schema = schema()?;
    let text = |value: &Value| value["description"].as_str().unwrap_or_default().to_owned();
    let tables = TABLES.iter().map(|name| {
        let table = &schema["properties"][name];
        let required = table["required"].as_array().cloned().unwrap_or_default();
        let keys = table["properties"].as_object().into_iter().flatten();
        let keys = keys.map(|(key, value)| KeyReference {
            line: format!("{key} = {}", render_syntax(value)),
            description: text(value),
            is_required: required.iter().any(|name| name == key),
        });
        let keys = keys.collect();
        TableReference { name: (*name).to_owned(), description: text(table), keys }
    });
    Ok(tables.collect())
}

/// Returns the syntax of a value in TOML.
fn render_syntax(schema: &Value) -> String {
    match schema["type"].as_str() {
        Some("array") => format!("[{}, ...]", render_syntax(&schema["items"])),
        Some("boolean") => "true or false".to_owned(),
        Some("integer") => "NUMBER".to_owned(),
        Some("object") => {
            let value = render_syntax(&schema["additionalProperties"]);
            format!("{{ \"CATEGORY/NAME\" = {value}, ... }}")
        }
        _ => format!("\"{}\"", schema["title"].as_str().unwrap_or("PATH")),
    }
}

/// Words of help that mean flags, not values of a file.
const ABOUT_FLAGS: &[&str] = &["; can be given several times", " Can be given several times"];

/// Returns a description of help as sentences in one line.
fn as_sentences(help: &str) -> String {
    let mut text = help.replace("\n\n", ". ").replace('\n', " ");
    for words in ABOUT_FLAGS {
        text = text.replace(words, "");
    }
    text.trim_end_matches('.').replace("..", ".") + "."
}

/// Removes `null` from types: TOML has none, and an optional value is left out.
#[derive(Clone, Debug)]
struct RemoveNull;

impl Transform for RemoveNull {
    fn transform(&mut self, schema: &mut Schema) {
        let Some(object) = schema.as_object_mut() else { return };
        if let Some(Value::String(description)) = object.get_mut("description") {
            *description = as_sentences(description);
        }
        if object.get("default").is_some_and(Value::is_null) {
            object.remove("default");
        }
        if let Some(values) = object.get_mut("enum").and_then(Value::as_array_mut) {
            values.retain(|value| !value.is_null());
        }
        let types = object.get_mut("type").and_then(Value::as_array_mut);
        if let Some(types) = types {
            types.retain(|name| *name != "null");
            if let [single] = types.as_slice() {
                let single = single.clone();
                object.insert("type".to_owned(), single);
            }
        }
        let Some(variants) = object.get_mut("anyOf").and_then(Value::as_array_mut) else { return };
        variants.retain(|variant| *variant != json!({ "type": "null" }));
        let [Value::Object(single)] = variants.as_slice() else { return };
        let single = single.clone();
        object.remove("anyOf");
        for (key, value) in single {
            object.entry(key).or_insert(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_sentences_about_values() {
        let help = "A field, like ID=x\n\nFits every\ndistribution. Can be given several times.";
        assert_eq!(as_sentences(help), "A field, like ID=x. Fits every distribution.");
        assert_eq!(as_sentences("Link it; can be given several times"), "Link it.");
    }

    #[test]
    fn nothing_may_be_null() {
        assert!(!schema().unwrap().to_string().contains("null"));
    }

    #[test]
    fn every_table_has_a_reference() {
        let tables = reference().unwrap();
        let schema = schema().unwrap();
        assert_eq!(tables.len(), schema["properties"].as_object().unwrap().len());
        for table in tables {
            assert!(!table.keys.is_empty() && !table.description.is_empty(), "{table:?}");
            assert!(table.keys.iter().all(|key| !key.description.is_empty()), "{table:?}");
        }
    }
}
