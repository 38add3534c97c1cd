//! Tables as data: shown as Markdown, CSV, JSON or HTML.

use serde_json::Value;

/// A cell: its text, and what it leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    text: String,
    /// A path from the project's root.
    link: Option<String>,
}

impl Cell {
    /// A text that leads to a file or folder, by its path from the project's root.
    pub fn link(text: impl Into<String>, path: impl Into<String>) -> Self {
        Self { text: text.into(), link: Some(path.into()) }
    }

    /// With `root` in front of links; as plain text where that is absent.
    fn markdown(&self, root: Option<&str>) -> String {
        let text = self.text.replace('|', "\\|").replace('\n', "<br>");
        match (&self.link, root) {
            (Some(path), Some(root)) => format!("[{text}]({root}{path})"),
            _ => text,
        }
    }
}

impl<S: Into<String>> From<S> for Cell {
    fn from(text: S) -> Self {
        Self { text: text.into(), link: None }
    }
}

/// A table of cells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these columns and no rows.
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        Self { header: header.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty.
    pub fn row<C: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = C>) {
        let mut cells: Vec<Cell> = cells.into_iter().map(Into::into).collect();
        cells.resize(self.header.len(), Cell::default());
        self.rows.push(cells);
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As Markdown, columns aligned, links as plain text.
    pub fn markdown(&self) -> String {
        self.text(None)
    }

    /// As Markdown in a file from which the project's root is `root`, such as `../../`.
    pub fn markdown_from(&self, root: &str) -> String {
        self.text(Some(root))
    }

    fn text(&self, root: Option<&str>) -> String {
        let header = self.header.iter().map(|name| name.replace('|', "\\|")).collect();
        let cells =
            self.rows.iter().map(|row| row.iter().map(|cell| cell.markdown(root)).collect());
        let rows: Vec<Vec<String>> = std::iter::once(header).chain(cells).collect();
        // A link is long in the source and short on the page: nothing is aligned with it.
        let wide = |row: &Vec<String>, column: usize| {
            let linked = row[column].contains("](");
            if linked { 0 } else { row[column].chars().count() }
        };
        let width = |column| rows.iter().map(|row| wide(row, column)).max().unwrap_or(0).max(3);
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let mut text = String::new();
        for (index, row) in rows.iter().enumerate() {
            text.push('|');
            for (cell, &width) in row.iter().zip(&widths) {
                text.push_str(&format!(" {cell:width$} |"));
            }
            text.push('\n');
            if index == 0 {
                text.push('|');
                for &width in &widths {
                    text.push_str(&format!(" {:-<width$} |", ""));
                }
                text.push('\n');
            }
        }
        text
    }

    /// As CSV (RFC 4180, lines end with `\n`), links left out.
    pub fn csv(&self) -> String {
        let quoted = |cell: &str| match cell.contains([',', '"', '\n']) {
            true => format!("\"{}\"", cell.replace('"', "\"\"")),
            false => cell.to_owned(),
        };
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            cells.map(quoted).collect::<Vec<_>>().join(",") + "\n"
        };
        let mut text = line(&mut self.header.iter().map(String::as_str));
        for row in &self.rows {
            text += &line(&mut row.iter().map(|cell| cell.text.as_str()));
        }
        text
    }

    /// As an array of rows, each an object by column: numbers as numbers, other texts as texts, links left out.
    pub fn json(&self) -> Value {
        let value = |text: &str| match text.parse() {
            Ok(number) => Value::Number(number),
            Err(_) => text.into(),
        };
        let row = |cells: &Vec<Cell>| {
            self.header.iter().cloned().zip(cells.iter().map(|cell| value(&cell.text))).collect()
        };
        self.rows.iter().map(|cells| Value::Object(row(cells))).collect()
    }

    /// As an HTML table, links as plain text with their path as a tooltip.
    pub fn html(&self) -> String {
        let mut text = String::from("<table><thead><tr>");
        for name in &self.header {
            text += &format!("<th>{}</th>", escaped(name));
        }
        text += "</tr></thead><tbody>\n";
        for row in &self.rows {
            text += "<tr>";
            for Cell { text: own, link } in row {
                let title = link
                    .as_ref()
                    .map_or(String::new(), |path| format!(" title=\"{}\"", escaped(path)));
                text += &format!("<td{title}>{}</td>", escaped(own).replace('\n', "<br>"));
            }
            text += "</tr>\n";
        }
        text + "</tbody></table>\n"
    }
}

/// A text as HTML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_bars_escaped() {
        let mut table = Table::new(["network", "a|b"]);
        table.row(["x", "1"]);
        table.row(["longer name"]);
        assert_eq!(
            table.markdown(),
            "| network     | a\\|b |\n\
             | ----------- | ---- |\n\
             | x           | 1    |\n\
             | longer name |      |\n"
        );
    }

    #[test]
    fn numbers_are_numbers_in_json() {
        let mut table = Table::new(["kernel", "us", "of dense"]);
        table.row(["avx512_8x48", "12.50", "3.1x"]);
        assert_eq!(
            table.json().to_string(),
            r#"[{"kernel":"avx512_8x48","of dense":"3.1x","us":12.5}]"#
        );
    }

    #[test]
    fn a_cell_leads_to_its_file_where_the_text_can() {
        let mut table = Table::new(["run", "note"]);
        table.row([Cell::link("seed 1", "results/a"), Cell::from("a, \"b\" <c>")]);
        assert!(table.markdown().contains("| seed 1 |"));
        assert!(table.markdown_from("../../").contains("[seed 1](../../results/a)"));
        assert_eq!(table.csv(), "run,note\nseed 1,\"a, \"\"b\"\" <c>\"\n");
        assert_eq!(table.json().to_string(), r#"[{"note":"a, \"b\" <c>","run":"seed 1"}]"#);
        let html = table.html();
        assert!(html.contains("<td title=\"results/a\">seed 1</td>"), "{html}");
        assert!(html.contains("a, &quot;b&quot; &lt;c&gt;"), "{html}");
    }
}
