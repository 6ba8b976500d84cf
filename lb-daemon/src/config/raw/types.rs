//! Values of another type than they should be, and what was meant by them perhaps.

use toml::de::DeValue;

use super::{Section, Value};
use crate::config::diagnostic::{Code, Complaint};

impl Section<'_> {
    /// Complains that `value` is not of the type that `wanted` names.
    pub(in crate::config) fn wrong_type(&self, key: &str, value: Value<'_>, wanted: &str) {
        let is_integer = |text: &str| match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).is_ok(),
            None => text.parse::<u64>().is_ok(),
        };
        let hint = match value.get_ref() {
            DeValue::String(text) if wanted == "an integer" && is_integer(text) => {
                format!("leave out the quotes: {text}")
            }
            DeValue::Integer(number) if wanted == "a string" => format!("put it in quotes: \"{number}\""),
            DeValue::String(text) if wanted == "an array" => format!("put it in brackets: [\"{text}\"]"),
            DeValue::Integer(number) if wanted == "an array" => format!("put it in brackets: [{number}]"),
            _ => format!("give `{key}` {wanted}"),
        };
        self.mistyped(key, value, wanted, hint);
    }

    /// As [`Section::wrong_type`], with the hint given.
    pub(in crate::config) fn mistyped(&self, key: &str, value: Value<'_>, wanted: &str, hint: String) {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        let complaint = Complaint::new(Code::WrongType, value.span(), format!("`{key}` has a value of the wrong type"));
        self.complain(complaint.label(format!("this is {found}, not {wanted}")).hint(hint));
    }
}
