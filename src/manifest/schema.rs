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

/// Removes `null` from types: TOML has none, and an optional value is left out.
#[derive(Clone, Debug)]
struct RemoveNull;

impl Transform for RemoveNull {
    fn transform(&mut self, schema: &mut Schema) {
        let Some(object) = schema.as_object_mut() else { return };
        if let Some(Value::String(description)) = object.get_mut("description") {
            *description =
                description.replace(" Can be given several times.", "").replace('\n', " ");
        }
        if object.get("default").is_some_and(Value::is_null) {
            object.remove("default");
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
