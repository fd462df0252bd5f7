//! Predictions for a person to read in a terminal.

use comfy_table::{ContentArrangement, Row, Table, presets};

use crate::prediction::Prediction;
use crate::taxonomy::Taxonomy;

/// Lays predictions out, each with its issue's title, in lines of at most `width` columns as far
/// as the labels allow (three heads with names of ordinary length fit 80). No newline at the end.
///
/// ```text
/// issue                    kind           category      root_cause
/// vllm-project/vllm#12345  bug 0.93       memory? 0.31  unknown 0.40
///   Out of memory when loading a model that fitted before the last update wi…
/// ```
///
/// A `?` marks a head that abstained: the label is its best guess.
pub fn table(rows: &[(&Prediction, &str)], taxonomy: &Taxonomy, width: u16) -> String {
    let heads = taxonomy.heads.iter().map(|head| head.name.as_str());
    let mut labels = Table::new();
    labels
        .load_style(presets::NOTHING)
        .set_header(["issue"].into_iter().chain(heads));
    let mut titles = Table::new();
    titles
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width);

    for (prediction, title) in rows {
        let mut cells = vec![one_line(&prediction.id.to_string())];
        cells.extend(prediction.heads.iter().enumerate().map(|(head, answer)| {
            let label = taxonomy.label_name(head, answer.label);
            let mark = if answer.abstained { "?" } else { "" };
            format!("{label}{mark} {:.2}", answer.probability)
        }));
        labels.add_row(cells);
        let mut title = Row::from([one_line(title)]);
        title.max_height(1);
        titles.add_row(title);
    }
    for column in labels.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for column in titles.column_iter_mut() {
        column.set_padding((2, 0));
    }

    let mut labels = labels.lines();
    let header = labels.next();
    let lines = header
        .into_iter()
        .chain(labels.zip(titles.lines()).flat_map(<[_; 2]>::from));
    let lines = lines
        .map(|line| line.trim_end().to_owned())
        .filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

/// The text without line breaks, and without the control characters by which it could take hold
/// of the terminal.
fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prediction::fixture::{predictions, taxonomy};

    fn shown(titles: &[&str], width: u16) -> String {
        let predictions = predictions();
        let rows: Vec<_> = predictions.iter().zip(titles.iter().copied()).collect();
        table(&rows, &taxonomy(), width)
    }

    #[test]
    fn heads_stand_in_columns_with_the_title_below() {
        assert_eq!(
            shown(
                &[
                    "Out of memory",
                    "Garbage collection of a very long title",
                    "",
                    "Help"
                ],
                30
            ),
            "\
issue                            kind           category     root_cause
ada/engine#1                     bug 0.93       memory 0.81  naïveté 0.60
  Out of memory
ada/engine#20                    bug 0.93       memory 0.81  unknown? 0.40
  Garbage collection of a ver…
ada/engine#3                     feature 1.00   none 1.00    none 1.00
a \"b\", c/d#18446744073709551615  feature? 0.51  none? 0.50   none? 0.50
  Help"
        );
    }

    #[test]
    fn wide_characters_count_twice_when_a_title_is_cut() {
        let shown = shown(&["显存不足导致服务崩溃"], 13);
        assert_eq!(shown.lines().last().unwrap(), "  显存不足导…");
    }

    #[test]
    fn a_title_cannot_reach_the_terminal() {
        let shown = shown(&["a\u{1b}[31m\u{7}\r\nb"], 80);
        assert_eq!(shown.lines().last().unwrap(), "  a [31m b");
    }
}
