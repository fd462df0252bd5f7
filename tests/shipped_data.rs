//! The taxonomy, the codebook and the annotations that ship with the crate agree with each other.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use faultlens::annotation::{Annotation, Confidence, Coverage, read_annotations};
use faultlens::issue::IssueId;
use faultlens::taxonomy::{Head, Taxonomy};

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn taxonomy() -> Taxonomy {
    Taxonomy::from_path(&shipped("training-data/taxonomy.toml")).unwrap()
}

fn annotations(path: &str) -> Vec<Annotation> {
    read_annotations(&shipped(path), &taxonomy(), Coverage::AllHeads)
        .unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn training_and_gold_annotations_load_and_share_no_issue() {
    let (training, gold) = (
        annotations("training-data/labels.jsonl"),
        annotations("eval/gold.jsonl"),
    );
    assert_eq!((training.len(), gold.len()), (3224, 401));
    let ids: HashSet<&IssueId> = training.iter().map(|annotation| &annotation.id).collect();
    assert!(gold.iter().all(|annotation| !ids.contains(&annotation.id)));
}

#[test]
fn gold_was_read_twice_and_adjudicated_just_where_the_readings_differ() {
    for annotation in annotations("eval/gold.jsonl") {
        let [first, second] = &annotation.readings[..] else {
            panic!("{} was not read twice", annotation.id);
        };
        assert_eq!(annotation.adjudicated, first != second, "{}", annotation.id);
        if first == second {
            assert_eq!(&annotation.labels, first, "{}", annotation.id);
        } else {
            assert_eq!(annotation.confidence, Some(Confidence::Low));
        }
    }
}

#[test]
fn the_shipped_taxonomy_survives_writing_and_reading() {
    let taxonomy = taxonomy();
    let copy = Taxonomy::from_toml(&taxonomy.to_toml(), "copy").unwrap();
    assert_eq!(copy, taxonomy);
}

#[test]
fn heads_after_kind_apply_to_bugs_only() {
    let taxonomy = taxonomy();
    let names: Vec<&str> = taxonomy.heads.iter().map(|h| h.name.as_str()).collect();
    assert_eq!(names, ["kind", "category", "root_cause"]);
    for kind in 0..taxonomy.heads[0].labels.len() {
        let bug = taxonomy.heads[0].labels[kind].name == "bug";
        for head in [1, 2] {
            assert_eq!(taxonomy.applies(head, &[Some(kind), None, None]), bug);
        }
    }
}

/// The label and its "when" in each table row of a section of the codebook.
fn rows(section: &str) -> Vec<(&str, &str)> {
    section
        .lines()
        .filter_map(|line| {
            let (label, when) = line.split_once('`')?.1.split_once("` | ")?;
            Some((label, when.strip_suffix(" |")?))
        })
        .collect()
}

#[test]
fn the_taxonomy_says_what_the_codebook_says() {
    let codebook = fs::read_to_string(shipped("training-data/CODEBOOK.md")).unwrap();
    let sections: Vec<&str> = codebook.split("\n## ").collect();
    let heads = taxonomy().heads;
    for (head, section) in heads.iter().zip(&sections[1..]) {
        let labels: Vec<(&str, &str)> = head
            .labels
            .iter()
            .map(|label| (label.name.as_str(), label.definition.as_str()))
            .collect();
        assert_eq!(labels, rows(section), "{}", head.name);
    }
    let in_codebook: HashSet<&str> = codebook
        .lines()
        .filter_map(|line| line.strip_prefix("- "))
        .collect();
    let labels = |head: &Head| head.labels.clone();
    let attached: Vec<String> = heads
        .iter()
        .flat_map(labels)
        .flat_map(|l| l.rules)
        .collect();
    let attached: HashSet<&str> = attached.iter().map(String::as_str).collect();
    assert_eq!(attached, in_codebook);
}
