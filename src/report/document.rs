//! Results as a document: sections of texts, tables and plots, written as a Markdown file each or as one page of HTML.

use super::table::Table;

/// A plot: its name, and itself as SVG.
pub type Svg = (String, String);

/// All sections, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// Each becomes a file.
    pub sections: Vec<Section>,
    /// Plots by name.
    pub plots: Vec<Svg>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// Its file's name without the ending.
    pub name: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// One line on what is in it.
    pub about: &'static str,
    /// What it consists of.
    pub blocks: Vec<Block>,
    /// Its numbers for programs; those of its first table, where that says it all.
    pub csv: Option<String>,
}

/// A part of a section.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// A heading below the section's.
    Heading(String),
    /// Paragraphs, as Markdown.
    Text(String),
    /// A table.
    Table(Table),
    /// A plot of the document, and what it shows.
    Plot {
        /// Its name.
        name: String,
        /// For those who do not see it.
        title: String,
    },
}

impl Section {
    /// The folder of the sections' files, from the project's root.
    pub const FOLDER: &'static str = "docs/results";

    /// As a Markdown file in [`Section::FOLDER`].
    pub fn markdown(&self) -> String {
        let root = "../../";
        let mut text = format!("# {}\n\n", self.title);
        if self.csv().is_some() {
            text += &format!("As [CSV]({}.csv). [All results]({root}RESULTS.md).\n\n", self.name);
        }
        for block in &self.blocks {
            text += &match block {
                Block::Heading(heading) => format!("## {heading}\n\n"),
                Block::Text(paragraphs) => format!("{paragraphs}\n\n"),
                Block::Table(table) => table.markdown_from(root) + "\n",
                Block::Plot { name, title } => {
                    format!("![{title}]({root}results/plots/{name}.svg)\n\n")
                }
            };
        }
        text.trim_end().to_owned() + "\n"
    }

    /// Its numbers as CSV; none without a table.
    pub fn csv(&self) -> Option<String> {
        let first = || {
            self.blocks.iter().find_map(|block| match block {
                Block::Table(table) => Some(table.csv()),
                _ => None,
            })
        };
        self.csv.clone().or_else(first)
    }
}
