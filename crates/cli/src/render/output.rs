//! Rows in the form that was asked for.

use std::borrow::Cow;

use clap::ValueEnum;
use serde_json::{Map, Value};

use super::{
    json,
    table::{Align, Table},
    yaml,
};

/// `-f/--format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    #[default]
    Pretty,
    /// Values separated by tabs, the first line names them.
    Tsv,
    /// One line.
    Json,
    Yaml,
    /// The same as yaml.
    Yml,
}

/// What happens to empty cells in JSON and YAML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Empty {
    Keep,
    Omit,
}

/// Named columns and rows of values.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) columns: Vec<(Cow<'static, str>, Align)>,
    pub(crate) rows: Vec<Vec<Value>>,
}

impl Rows {
    /// The text with its line end.
    pub(crate) fn render(&self, format: Format, title: Option<&str>, empty: Empty) -> String {
        match format {
            Format::Pretty => self.table(title).render(),
            Format::Tsv => self.tsv("\t"),
            Format::Json => json::one_line(&self.objects(empty)) + "\n",
            Format::Yaml | Format::Yml => yaml::block(&self.objects(empty)) + "\n",
        }
    }

    fn table(&self, title: Option<&str>) -> Table {
        Table {
            title: title.map(str::to_owned),
            columns: self.columns.iter().map(|(name, align)| (name.to_string(), *align)).collect(),
            rows: self.rows.iter().map(|row| row.iter().map(text).collect()).collect(),
        }
    }

    fn tsv(&self, delimiter: &str) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_ref()).collect();
        let mut lines = vec![names.join(delimiter)];
        lines.extend(self.rows.iter().map(|row| row.iter().map(text).collect::<Vec<_>>().join(delimiter)));
        lines.join("\n") + "\n"
    }

    fn objects(&self, empty: Empty) -> Value {
        let object = |row: &Vec<Value>| {
            let cells = self.columns.iter().zip(row);
            let kept = cells.filter(|(_, value)| empty == Empty::Keep || !text(value).is_empty());
            Value::Object(
                kept.map(|((name, _), value)| (name.to_string(), value.clone())).collect::<Map<_, _>>(),
            )
        };
        Value::Array(self.rows.iter().map(object).collect())
    }
}

/// A cell for people.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
