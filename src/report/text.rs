//! Tables as text.

/// A table of cells, shown as Markdown or CSV.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns and no rows.
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        Self { header: header.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let mut cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        cells.resize(self.header.len(), String::new());
        self.rows.push(cells);
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As Markdown, columns aligned.
    pub fn markdown(&self) -> String {
        let escaped = |row: &[String]| -> Vec<String> {
            row.iter().map(|cell| cell.replace('|', "\\|").replace('\n', "<br>")).collect()
        };
        let rows: Vec<Vec<String>> =
            std::iter::once(&self.header).chain(&self.rows).map(|row| escaped(row)).collect();
        let width = |column: usize| {
            rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3)
        };
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
}
