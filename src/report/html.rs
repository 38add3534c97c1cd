//! All results as one self-contained page: no file and no server beside it is needed.

use pulldown_cmark::{Options, Parser, html::push_html};

use super::document::{Block, Document, Section, Svg};
use super::table::escaped;

const STYLE: &str = "\
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 76rem; padding: 1rem 1.5rem 4rem; }
nav { position: sticky; top: 0; display: flex; flex-wrap: wrap; padding: .5rem 0; background: Canvas; border-bottom: 1px solid #8886; }
nav a { margin-right: 1rem; white-space: nowrap; }
section > div { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid #8884; vertical-align: top; }
th { cursor: pointer; user-select: none; background: #8882; }
th[data-order]::after { content: ' \\25B2'; font-size: 10px; }
th[data-order='-1']::after { content: ' \\25BC'; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; background: #fff; }
h1 { margin-bottom: .25rem; } h2 { margin-top: 2.5rem; }
";

/// Sorts a table by the column whose head is clicked, by the first number in each cell, else by its text.
const SCRIPT: &str = "\
document.querySelectorAll('th').forEach(head => head.addEventListener('click', () => {
  const place = head.cellIndex, body = head.closest('table').tBodies[0];
  const order = head.dataset.order === '1' ? -1 : 1;
  head.parentNode.querySelectorAll('th').forEach(other => delete other.dataset.order);
  head.dataset.order = order;
  const key = row => row.cells[place].textContent;
  const number = text => { const found = text.match(/-?\\d+(\\.\\d+)?/); return found ? Number(found[0]) : NaN; };
  [...body.rows].sort((a, b) => {
    const [x, y] = [number(key(a)), number(key(b))];
    if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
    return order * (Number.isNaN(x) ? key(a).localeCompare(key(b)) : x - y);
  }).forEach(row => body.append(row));
}));
";

/// The document as a page.
pub(super) fn page(document: &Document) -> String {
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Scalpel: results</title>\n\
         <link rel=\"icon\" href=\"data:,\"><style>\n{STYLE}</style></head><body>\n<h1>Scalpel: results</h1>\n\
         <p>Every number is from a file under <code>results/</code>. Click a column's head to sort by it.</p>\n<nav>"
    );
    for Section { name, title, .. } in &document.sections {
        text += &format!("<a href=\"#{name}\">{}</a>", escaped(title));
    }
    text += "</nav>\n";
    for section in &document.sections {
        let Section { name, title, about, blocks, .. } = section;
        let (title, about) = (escaped(title), escaped(about));
        text += &format!("<section id=\"{name}\"><h2>{title}</h2><p>{about}</p>\n");
        blocks.iter().for_each(|block| text += &html(block, &document.plots));
        text += "</section>\n";
    }
    text + &format!("<script>\n{SCRIPT}</script></body></html>\n")
}

fn html(block: &Block, plots: &[Svg]) -> String {
    match block {
        Block::Heading(heading) => format!("<h3>{}</h3>\n", escaped(heading)),
        Block::Text(paragraphs) => {
            let mut text = String::new();
            push_html(&mut text, Parser::new_ext(paragraphs, Options::empty()));
            text
        }
        Block::Table(table) => format!("<div>{}</div>\n", table.html()),
        Block::Plot { name, title } => {
            let svg = plots.iter().find(|(own, _)| own == name).map_or("", |(_, svg)| svg);
            format!("<figure aria-label=\"{}\">{svg}</figure>\n", escaped(title))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::table::Table;

    #[test]
    fn a_page_holds_all_it_shows() {
        let mut table = Table::new(["a", "b"]);
        table.row(["1", "<2>"]);
        let blocks = vec![
            Block::Text("*Reading*, `code`.".into()),
            Block::Table(table),
            Block::Plot { name: "plot".into(), title: "bars".into() },
        ];
        let section =
            Section { name: "topic", title: "A topic", about: "What.", blocks, csv: None };
        let plots = vec![("plot".to_owned(), "<svg>drawn</svg>".to_owned())];
        let page = page(&Document { sections: vec![section], plots });
        for part in
            ["href=\"#topic\"", "<em>Reading</em>", "&lt;2&gt;", "<svg>drawn</svg>", "</html>"]
        {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains("http"), "nothing is fetched");
    }
}
