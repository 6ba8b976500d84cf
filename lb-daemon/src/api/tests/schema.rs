//! Holds JSON values against the schemas of an `OpenAPI` document: as much of JSON Schema as ours use, and stricter, since a
//! field that the document does not know is a complaint.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// What a schema says of objects, with what it refers to and is put together from.
#[derive(Default)]
struct Fields<'d> {
    known: BTreeMap<&'d str, &'d Value>,
    required: BTreeSet<&'d str>,
    others: Option<&'d Value>,
}

/// A document, for its references.
pub(super) struct Schemas<'d>(pub(super) &'d Value);

impl<'d> Schemas<'d> {
    /// The schema itself, where this one only names it.
    pub(super) fn resolved(&self, schema: &'d Value) -> &'d Value {
        match schema["$ref"].as_str() {
            Some(name) => self.resolved(self.0.pointer(name.trim_start_matches('#')).expect(name)),
            None => schema,
        }
    }

    /// What is wrong with `value`, which stands at `at`.
    pub(super) fn complaints(&self, schema: &'d Value, value: &Value, at: &str) -> Vec<String> {
        let schema = self.resolved(schema);
        for one in ["oneOf", "anyOf"] {
            if let Some(branches) = schema[one].as_array() {
                let fits = |branch| self.complaints(branch, value, at).is_empty();
                return if branches.iter().any(fits) {
                    Vec::new()
                } else {
                    vec![format!("{at}: {value} fits no branch")]
                };
            }
        }
        if let Some(all) = schema["enum"].as_array() {
            return if all.contains(value) { Vec::new() } else { vec![format!("{at}: {value} is none of {all:?}")] };
        }
        let fields = self.fields(schema);
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
            _ if !fields.known.is_empty() => vec!["object"],
            // Anything goes.
            _ => return Vec::new(),
        };
        let fits = |name: &&str| match *name {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("{at}: the schema has type {other}"),
        };
        if !types.iter().any(fits) {
            return vec![format!("{at}: {value} is no {types:?}")];
        }
        let below = schema["minimum"].as_f64().zip(value.as_f64()).is_some_and(|(least, value)| value < least);
        let mut complaints = if below { vec![format!("{at}: {value} is too small")] } else { Vec::new() };
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            complaints.extend(self.complaints(&schema["items"], item, &format!("{at}[{index}]")));
        }
        if value.is_object() {
            complaints.extend(self.object(&fields, value, at));
        }
        complaints
    }

    fn object(&self, fields: &Fields<'d>, value: &Value, at: &str) -> Vec<String> {
        let missing = fields.required.iter().filter(|name| value.get(**name).is_none());
        let mut complaints: Vec<String> = missing.map(|name| format!("{at}: {name} is missing")).collect();
        for (name, value) in value.as_object().into_iter().flatten() {
            let at = format!("{at}.{name}");
            match (fields.known.get(name.as_str()), fields.others) {
                (Some(schema), _) => complaints.extend(self.complaints(schema, value, &at)),
                (None, Some(schema)) if schema.is_object() => complaints.extend(self.complaints(schema, value, &at)),
                _ => complaints.push(format!("{at} is not in the document")),
            }
        }
        complaints
    }

    fn fields(&self, schema: &'d Value) -> Fields<'d> {
        let schema = self.resolved(schema);
        let mut fields = Fields { others: schema.get("additionalProperties"), ..Fields::default() };
        fields
            .known
            .extend(schema["properties"].as_object().into_iter().flatten().map(|(name, one)| (name.as_str(), one)));
        fields.required.extend(schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str));
        for part in schema["allOf"].as_array().into_iter().flatten() {
            let part = self.fields(part);
            fields.known.extend(part.known);
            fields.required.extend(part.required);
        }
        fields
    }
}

#[test]
fn a_value_that_does_not_fit_gets_its_complaint() {
    let document = serde_json::json!({
        "Name": { "type": "string", "enum": ["a", "b"] },
        "Base": { "type": "object", "properties": { "n": { "type": "integer", "minimum": 0 } }, "required": ["n"] },
        "All": { "allOf": [
            { "$ref": "#/Base" },
            { "type": "object", "properties": {
                "name": { "oneOf": [{ "type": "null" }, { "$ref": "#/Name" }] },
                "map": { "type": "object", "additionalProperties": { "type": ["string", "null"] } },
                "list": { "type": "array", "items": { "$ref": "#/Base" } }
            } }
        ] }
    });
    let schemas = Schemas(&document);
    let complaints = |value: Value| schemas.complaints(&document["All"], &value, "").join("; ");
    let good = serde_json::json!({ "n": 1, "name": "a", "map": { "k": null }, "list": [{ "n": 0 }] });
    assert_eq!(complaints(good), "");
    for (bad, complaint) in [
        (serde_json::json!({}), ": n is missing"),
        (serde_json::json!({ "n": -1 }), ".n: -1 is too small"),
        (serde_json::json!({ "n": 1.5 }), ".n: 1.5 is no [\"integer\"]"),
        (serde_json::json!({ "n": 1, "m": 1 }), ".m is not in the document"),
        (serde_json::json!({ "n": 1, "name": "c" }), ".name: \"c\" fits no branch"),
        (serde_json::json!({ "n": 1, "map": { "k": 1 } }), ".map.k: 1 is no [\"string\", \"null\"]"),
        (serde_json::json!({ "n": 1, "list": [{ "n": 1, "x": 1 }] }), ".list[0].x is not in the document"),
        (serde_json::json!([]), ": [] is no [\"object\"]"),
    ] {
        assert_eq!(complaints(bad), complaint);
    }
}
