//! The heads and labels of a classifier, as data.

/// Heads in the order they are decided: a head may depend only on one before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Taxonomy {
    pub heads: Vec<Head>,
}

/// One question asked of an issue, such as its `kind`.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    pub name: String,
    pub title: String,
    pub definition: String,
    /// `None`: the head applies to every issue.
    pub applies_when: Option<Condition>,
    pub labels: Vec<Label>,
}

/// A head applies where the head at index `head` has one of `labels` (indices into its labels).
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub head: usize,
    pub labels: Vec<usize>,
}

/// One answer to a head's question.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    pub name: String,
    pub title: String,
    pub definition: String,
    pub rules: Vec<String>,
}

/// What files write where a head does not apply.
pub const NONE: &str = "none";

impl Taxonomy {
    /// Whether `head` applies to an issue whose earlier heads are labelled `labels`
    /// (one entry a head, `None` where a head does not apply).
    pub fn applies(&self, head: usize, labels: &[Option<usize>]) -> bool {
        match &self.heads[head].applies_when {
            None => true,
            Some(condition) => {
                labels[condition.head].is_some_and(|label| condition.labels.contains(&label))
            }
        }
    }

    /// The name of a head's label in files, [`NONE`] where the head does not apply.
    pub fn label_name(&self, head: usize, label: Option<usize>) -> &str {
        label.map_or(NONE, |label| &self.heads[head].labels[label].name)
    }
}
