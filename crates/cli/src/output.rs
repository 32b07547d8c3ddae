//! The one place that prints to standard output.

use serde_json::Value;
use std::io::{Write, stdout};

/// Prints a line; a reader that went away ends the program quietly.
pub(crate) fn line(text: impl AsRef<str>) {
    if writeln!(stdout(), "{}", text.as_ref()).is_err() {
        std::process::exit(0);
    }
}

/// Prints one JSON document.
pub(crate) fn json(value: &Value) {
    line(format!("{value:#}"));
}

/// Prints rows under their heads, in columns as wide as their widest cell; the last column is not padded.
pub(crate) fn table(heads: &[&str], rows: &[Vec<String>]) {
    for row in aligned(heads, rows) {
        line(row);
    }
}

fn aligned(heads: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let mut widths: Vec<usize> = heads.iter().map(|head| head.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let heads = heads.iter().map(|head| (*head).to_owned()).collect();
    std::iter::once(&heads)
        .chain(rows)
        .map(|row: &Vec<String>| {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect()
}

/// Prints a list of JSON objects as a table of the given fields; `head=field` renames.
pub(crate) fn list(items: &Value, columns: &[(&str, &str)], empty: &str) {
    let Some(items) = items.as_array().filter(|items| !items.is_empty()) else {
        line(empty);
        return;
    };
    let heads: Vec<&str> = columns.iter().map(|(head, _)| *head).collect();
    let rows: Vec<Vec<String>> =
        items.iter().map(|item| columns.iter().map(|(_, field)| cell(&item[*field])).collect()).collect();
    table(&heads, &rows);
}

/// One value as people read it.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| format!("{key}={}", cell(value))).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_characters() {
        let rows = vec![vec!["é".into(), "1".into()], vec!["long".into(), "2".into()]];
        assert_eq!(aligned(&["a", "b"], &rows), ["a     b", "é     1", "long  2"]);
    }
}
