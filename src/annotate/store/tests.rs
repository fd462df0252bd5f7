use tempfile::TempDir;

use super::*;

const TAXONOMY: &str = r#"
[[heads]]
name = "kind"
title = "Kind"
definition = ""
labels = [
    { name = "bug", title = "Bug", definition = "" },
    { name = "feature", title = "Feature", definition = "" },
]
"#;

fn open(folder: &TempDir) -> Result<Store, StoreError> {
    let taxonomy = Taxonomy::from_toml(TAXONOMY, "taxonomy").unwrap();
    Store::open(&folder.path().join("mine.jsonl"), &taxonomy)
}

fn label(number: u64, label: usize) -> Annotation {
    Annotation {
        id: id(number),
        labels: vec![Some(label)],
        annotator: Some("ann".into()),
        ..Annotation::default()
    }
}

fn id(number: u64) -> IssueId {
    IssueId {
        repo: "o/n".into(),
        number,
    }
}

fn text(store: &Store) -> String {
    fs::read_to_string(store.path()).unwrap()
}

#[test]
fn what_was_labelled_revised_and_undone_is_the_same_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).unwrap();
    store.add(label(1, 0)).unwrap();
    store.add(label(2, 0)).unwrap();
    store.add(label(1, 1)).unwrap();
    assert_eq!(store.get(&id(1)), Some(&label(1, 1)));
    assert_eq!(store.undo().unwrap(), Some(label(1, 1)));
    assert_eq!(store.get(&id(1)), Some(&label(1, 0)));
    drop(store);
    let mut store = open(&folder).unwrap();
    assert_eq!(store.get(&id(1)), Some(&label(1, 0)));
    assert_eq!(store.undo().unwrap(), Some(label(2, 0)));
    assert_eq!(store.undo().unwrap(), Some(label(1, 0)));
    assert_eq!(store.undo().unwrap(), None);
    assert!(store.is_empty());
    assert_eq!(text(&store).lines().count(), 6);
}

#[cfg(unix)]
#[test]
fn a_file_is_open_once_whatever_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).unwrap();
    assert!(matches!(open(&folder), Err(StoreError::Locked { .. })));
    let other = folder.path().join("other.jsonl");
    std::os::unix::fs::symlink(store.path(), &other).unwrap();
    let again = Store::open(&other, &store.taxonomy);
    assert!(matches!(again, Err(StoreError::Locked { .. })));
    drop(store);
    open(&folder).unwrap();
}

#[test]
fn an_edit_from_outside_is_merged_however_it_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).unwrap();
    store.add(label(1, 0)).unwrap();
    // In a new file, without an end of line.
    let edited = folder.path().join("edited");
    let line = r#"{"repo":"o/n","number":9,"kind":"feature"}"#;
    fs::write(&edited, line).unwrap();
    fs::rename(&edited, store.path()).unwrap();
    store.add(label(2, 1)).unwrap();
    assert_eq!(store.get(&id(1)), None);
    assert_eq!(store.get(&id(9)).unwrap().labels, [Some(1)]);
    assert!(text(&store).starts_with(&format!("{line}\n{{")));
    // In place.
    let shorter = text(&store).replace(line, r#"{"repo":"o/n","number":8,"kind":"bug"}"#);
    fs::write(store.path(), shorter).unwrap();
    assert!(store.refresh().unwrap());
    assert!(!store.refresh().unwrap());
    assert_eq!((store.get(&id(9)), store.len()), (None, 2));
}

#[test]
fn a_broken_edit_takes_no_label_and_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).unwrap();
    store.add(label(1, 0)).unwrap();
    let good = text(&store);
    fs::write(store.path(), format!("{good}oops\n")).unwrap();
    assert!(matches!(
        store.add(label(2, 0)),
        Err(StoreError::Invalid(_))
    ));
    assert_eq!(text(&store), format!("{good}oops\n"));
    fs::write(store.path(), &good).unwrap();
    store.add(label(2, 0)).unwrap();
    assert_eq!(store.len(), 2);
    fs::remove_file(store.path()).unwrap();
    assert!(matches!(
        store.add(label(3, 0)),
        Err(StoreError::Gone { .. })
    ));
}

#[test]
fn a_torn_last_line_is_cut_and_a_whole_one_without_an_end_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).unwrap();
    store.add(label(1, 0)).unwrap();
    store.add(label(2, 0)).unwrap();
    let whole = text(&store);
    let path = store.path().to_owned();
    drop(store);
    fs::write(&path, whole.trim_end()).unwrap();
    let store = open(&folder).unwrap();
    assert_eq!((store.len(), store.repaired()), (2, 0));
    drop(store);
    let first = whole.lines().next().unwrap().len() + 1;
    for torn in first + 1..whole.len() - 1 {
        fs::write(&path, &whole[..torn]).unwrap();
        let store = open(&folder).unwrap();
        assert_eq!((store.len(), store.repaired()), (1, torn - first));
    }
}
