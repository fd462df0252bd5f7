//! A taxonomy of one head, made from the labels of a table.

use std::collections::BTreeMap;

use super::{Head, Label, NONE, Problem, Taxonomy};

/// What labels that people write are called in files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelNames {
    /// From the text to the name.
    names: BTreeMap<String, String>,
}

impl LabelNames {
    /// The name of a label's text.
    pub fn name(&self, text: &str) -> Option<&str> {
        self.names.get(text.trim()).map(String::as_str)
    }
}

impl Taxonomy {
    /// The taxonomy of one head, named after a table's `column`, with the labels of its cells in the
    /// order of their names; `known` has those of a model to go on from, which stay in their order
    /// before them. A name is made of the text's letters and digits; the text is the label's title.
    ///
    /// # Errors
    /// Two texts have the same name, there are fewer than two labels, or `column` cannot name a head.
    pub fn from_labels<'a>(
        column: &str,
        texts: impl Iterator<Item = &'a str>,
        known: Option<&Self>,
    ) -> Result<(Self, LabelNames), Problem> {
        let mut names = LabelNames::default();
        let mut titles: BTreeMap<String, String> = BTreeMap::new();
        for text in texts.map(str::trim) {
            if names.names.contains_key(text) {
                continue;
            }
            let name = slug(text);
            if let Some(first) = titles.insert(name.clone(), text.to_owned()) {
                let second = text.to_owned();
                return Err(Problem::SameSlug {
                    first,
                    second,
                    name,
                });
            }
            names.names.insert(text.to_owned(), name);
        }
        let name = slug(column);
        let known = known.and_then(|known| known.heads.iter().find(|head| head.name == name));
        let mut labels = known.map_or(Vec::new(), |head| head.labels.clone());
        for (name, title) in titles {
            if !labels.iter().any(|label| label.name == name) {
                labels.push(Label {
                    name,
                    title,
                    ..Label::default()
                });
            }
        }
        let head = Head {
            name,
            title: column.to_owned(),
            labels,
            ..Head::default()
        };
        let taxonomy = Self { heads: vec![head] };
        // What a file with these heads would have to pass.
        Self::check(taxonomy.file())?;
        Ok((taxonomy, names))
    }
}

/// Letters and digits in lower case, joined by `_` where others were between them. Letters beyond a to z
/// are kept as the numbers of their code points.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.to_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' => slug.push(c),
            _ if c.is_alphanumeric() => slug.push_str(&format!("u{:04x}", u32::from(c))),
            _ if !slug.is_empty() && !slug.ends_with('_') => slug.push('_'),
            _ => {}
        }
    }
    let slug = slug.trim_end_matches('_');
    match slug {
        "" | NONE => format!("label_{slug}").trim_end_matches('_').to_owned(),
        _ => slug.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_become_labels_whose_titles_they_are() {
        let cells = [
            "Memory Leak",
            "build/CI",
            "Memory Leak",
            " build/CI ",
            "none",
            "Größe",
        ];
        let (taxonomy, names) =
            Taxonomy::from_labels("Failure type", cells.into_iter(), None).unwrap();
        let head = &taxonomy.heads[0];
        assert_eq!(head.name, "failure_type");
        let labels: Vec<(&str, &str)> = head
            .labels
            .iter()
            .map(|label| (label.name.as_str(), label.title.as_str()))
            .collect();
        assert_eq!(
            labels,
            [
                ("build_ci", "build/CI"),
                ("gru00f6u00dfe", "Größe"),
                ("label_none", "none"),
                ("memory_leak", "Memory Leak"),
            ]
        );
        assert_eq!(names.name("build/CI "), Some("build_ci"));
    }

    #[test]
    fn labels_that_files_could_not_tell_apart_are_refused() {
        let error = Taxonomy::from_labels("label", ["A b", "a-B"].into_iter(), None).unwrap_err();
        assert!(error.to_string().contains("a_b"), "{error}");
        let error = Taxonomy::from_labels("label", ["a", "a"].into_iter(), None).unwrap_err();
        assert!(matches!(error, Problem::TooFewLabels { .. }), "{error}");
    }

    #[test]
    fn a_known_taxonomy_keeps_its_order_and_gains_what_is_new() {
        let (old, _) = Taxonomy::from_labels("label", ["b", "c"].into_iter(), None).unwrap();
        let (new, _) = Taxonomy::from_labels("label", ["a", "c"].into_iter(), Some(&old)).unwrap();
        let names: Vec<&str> = new.heads[0]
            .labels
            .iter()
            .map(|l| l.name.as_str())
            .collect();
        assert_eq!(names, ["b", "c", "a"]);
    }
}
