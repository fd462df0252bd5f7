//! Files written, cut off, resumed and read back.

mod refusals;

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::prediction::fixture::{MODEL, predictions, taxonomy};
use crate::prediction::read::read_predictions;

const FORMATS: [&str; 3] = ["labels.jsonl", "labels.csv", "labels.parquet"];

/// Writes what `path` lacks of the predictions, one a call.
fn complete(path: &Path, mode: Mode) -> Result<(), WriteError> {
    let taxonomy = taxonomy();
    let mut writer = PredictionWriter::create(path, &taxonomy, MODEL, mode)?;
    let done = writer.done().clone();
    for prediction in predictions()
        .iter()
        .filter(|prediction| !done.contains(&prediction.id))
    {
        writer.append(std::slice::from_ref(prediction))?;
    }
    writer.finish()
}

/// The first `count` predictions appended, then the process gone.
fn abandon(path: &Path, count: usize) {
    let taxonomy = taxonomy();
    let mut writer = PredictionWriter::create(path, &taxonomy, MODEL, Mode::Create).unwrap();
    writer.append(&predictions()[..count]).unwrap();
}

fn refusal(path: &Path, mode: Mode) -> String {
    complete(path, mode).unwrap_err().to_string()
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn each_format_gives_back_what_was_written() {
    let folder = TempDir::new().unwrap();
    for name in FORMATS {
        let path = folder.path().join(name);
        complete(&path, Mode::Create).unwrap();
        assert_eq!(
            read_predictions(&path, &taxonomy()).unwrap(),
            predictions(),
            "{name}"
        );
    }
    assert_eq!(
        names(&folder),
        ["labels.csv", "labels.jsonl", "labels.parquet"]
    );
}

#[test]
fn a_line_of_json_is_flat_and_in_the_taxonomys_order() {
    let mut lines = Vec::new();
    write_jsonl(&mut lines, &predictions()[1..3], &taxonomy(), MODEL).unwrap();
    assert_eq!(
        String::from_utf8(lines).unwrap(),
        concat!(
            r#"{"repo":"ada/engine","number":20,"kind":"bug","category":"memory","#,
            r#""root_cause":null,"probability":{"kind":0.93,"category":0.81,"root_cause":0.4},"#,
            r#""distribution":{"kind":{"bug":0.93,"feature":0.07},"#,
            r#""category":{"memory":0.81,"gpu":0.12,"none":0.07},"#,
            r#""root_cause":{"naïveté":0.2,"unknown":0.4,"none":0.4}},"#,
            r#""abstained":["root_cause"],"model":"tiny-1a2b3c4d"}"#,
            "\n",
            r#"{"repo":"ada/engine","number":3,"kind":"feature","category":"none","#,
            r#""root_cause":"none","probability":{"kind":1.0,"category":0.9999,"#,
            r#""root_cause":0.9999},"distribution":{"kind":{"bug":0.0,"feature":1.0},"#,
            r#""category":{"memory":0.0001,"gpu":0.0,"none":0.9999},"#,
            r#""root_cause":{"naïveté":0.0001,"unknown":0.0,"none":0.9999}},"#,
            r#""abstained":[],"model":"tiny-1a2b3c4d"}"#,
            "\n",
        )
    );
}

#[test]
fn csv_has_a_column_for_each_label_and_leaves_abstained_cells_empty() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("labels.csv");
    complete(&path, Mode::Create).unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "repo,number,kind,category,root_cause,\
         kind_probability,category_probability,root_cause_probability,abstained,model,\
         kind.bug,kind.feature,category.memory,category.gpu,category.none,\
         root_cause.naïveté,root_cause.unknown,root_cause.none\n\
         ada/engine,1,bug,memory,naïveté,0.93,0.81,0.6,,tiny-1a2b3c4d,\
         0.93,0.07,0.81,0.12,0.07,0.6,0.33,0.07\n\
         ada/engine,20,bug,memory,,0.93,0.81,0.4,root_cause,tiny-1a2b3c4d,\
         0.93,0.07,0.81,0.12,0.07,0.2,0.4,0.4\n\
         ada/engine,3,feature,none,none,1,0.9999,0.9999,,tiny-1a2b3c4d,\
         0,1,0.0001,0,0.9999,0.0001,0,0.9999\n\
         \"a \"\"b\"\", c/d\",18446744073709551615,,,,0.51,0.5,0.5,\
         kind;category;root_cause,tiny-1a2b3c4d,\
         0.49,0.51,0.3,0.2,0.5,0.3,0.2,0.5\n"
    );
}

#[test]
fn a_file_cut_anywhere_is_continued_to_the_same_bytes() {
    let folder = TempDir::new().unwrap();
    for name in ["labels.jsonl", "labels.csv"] {
        let path = folder.path().join(name);
        complete(&path, Mode::Create).unwrap();
        let whole = fs::read(&path).unwrap();
        let header = usize::from(name == "labels.csv");
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let lines = whole[..cut].iter().filter(|&&byte| byte == b'\n').count();
            let taxonomy = taxonomy();
            let writer = PredictionWriter::create(&path, &taxonomy, MODEL, Mode::Resume).unwrap();
            assert_eq!(
                writer.done().len(),
                lines.saturating_sub(header),
                "{name} cut at {cut}"
            );

            complete(&path, Mode::Resume).unwrap();
            assert!(fs::read(&path).unwrap() == whole, "{name} cut at {cut}");
        }
    }
}

#[test]
fn a_parquet_journal_cut_anywhere_is_continued_to_the_same_predictions() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("labels.parquet");
    let journal = folder.path().join("labels.parquet.partial");
    abandon(&path, predictions().len());
    let whole = fs::read(&journal).unwrap();
    // Lines are cut as in the test before; every seventh place saves waiting for the disk.
    for cut in (0..=whole.len()).step_by(7) {
        let _ = fs::remove_file(&path);
        fs::write(&journal, &whole[..cut]).unwrap();
        complete(&path, Mode::Resume).unwrap();
        assert_eq!(
            read_predictions(&path, &taxonomy()).unwrap(),
            predictions(),
            "cut at {cut}"
        );
        assert_eq!(names(&folder), ["labels.parquet"]);
    }
}

#[test]
fn parquet_killed_while_finishing_is_finished_by_resuming() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("labels.parquet");

    abandon(&path, predictions().len());
    fs::write(
        folder.path().join("labels.parquet.new"),
        b"PAR1 and no more",
    )
    .unwrap();
    complete(&path, Mode::Resume).unwrap();
    assert_eq!(names(&folder), ["labels.parquet"]);
    assert_eq!(read_predictions(&path, &taxonomy()).unwrap(), predictions());

    let finished = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    abandon(&path, predictions().len());
    fs::write(&path, &finished).unwrap();
    complete(&path, Mode::Resume).unwrap();
    assert_eq!(names(&folder), ["labels.parquet"]);
    assert_eq!(fs::read(&path).unwrap(), finished);
}

#[test]
fn resuming_a_complete_file_leaves_it_untouched() {
    let folder = TempDir::new().unwrap();
    for name in FORMATS {
        let path = folder.path().join(name);
        complete(&path, Mode::Create).unwrap();
        let (bytes, modified) = (
            fs::read(&path).unwrap(),
            path.metadata().unwrap().modified().unwrap(),
        );
        complete(&path, Mode::Resume).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes, "{name}");
        assert_eq!(
            path.metadata().unwrap().modified().unwrap(),
            modified,
            "{name}"
        );
    }
    assert_eq!(names(&folder).len(), 3);
}

#[test]
fn more_predictions_are_added_to_a_finished_parquet_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("labels.parquet");
    let taxonomy = taxonomy();
    let mut writer = PredictionWriter::create(&path, &taxonomy, MODEL, Mode::Create).unwrap();
    writer.append(&predictions()[..2]).unwrap();
    writer.finish().unwrap();

    complete(&path, Mode::Resume).unwrap();
    assert_eq!(read_predictions(&path, &taxonomy).unwrap(), predictions());
    assert_eq!(names(&folder), ["labels.parquet"]);
}

#[test]
fn an_empty_journal_does_not_undo_a_finished_parquet_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("labels.parquet");
    complete(&path, Mode::Create).unwrap();
    fs::write(folder.path().join("labels.parquet.partial"), b"").unwrap();
    let taxonomy = taxonomy();
    let writer = PredictionWriter::create(&path, &taxonomy, MODEL, Mode::Resume).unwrap();
    assert_eq!(writer.done().len(), predictions().len());
}

#[test]
fn parquet_of_several_row_groups_keeps_the_order() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("labels.parquet");
    let taxonomy = taxonomy();
    let many: Vec<_> = (0..70_000)
        .map(|number| {
            let mut prediction = predictions()[1].clone();
            prediction.id.number = number;
            prediction
        })
        .collect();
    let mut writer = PredictionWriter::create(&path, &taxonomy, MODEL, Mode::Create).unwrap();
    writer.append(&many).unwrap();
    writer.finish().unwrap();
    assert!(read_predictions(&path, &taxonomy).unwrap() == many);
}

#[test]
fn a_missing_or_empty_file_is_begun_by_resuming() {
    let folder = TempDir::new().unwrap();
    for name in FORMATS {
        let path = folder.path().join(name);
        complete(&path, Mode::Resume).unwrap();
        fs::write(&path, b"").unwrap();
        complete(&path, Mode::Resume).unwrap();
        assert_eq!(
            read_predictions(&path, &taxonomy()).unwrap(),
            predictions(),
            "{name}"
        );
    }
}

#[test]
fn a_run_without_predictions_leaves_a_file_without_records() {
    let folder = TempDir::new().unwrap();
    let taxonomy = taxonomy();
    for name in FORMATS {
        let path = folder.path().join(name);
        let writer = PredictionWriter::create(&path, &taxonomy, MODEL, Mode::Create).unwrap();
        writer.finish().unwrap();
        assert_eq!(read_predictions(&path, &taxonomy).unwrap(), [], "{name}");
    }
    assert_eq!(names(&folder).len(), 3);
}

#[test]
fn nothing_is_created_or_replaced_before_the_first_prediction() {
    let folder = TempDir::new().unwrap();
    let taxonomy = taxonomy();
    for name in FORMATS {
        let path = folder.path().join(name);
        let create = |mode| PredictionWriter::create(&path, &taxonomy, MODEL, mode).unwrap();
        drop(create(Mode::Create));
        drop(create(Mode::Resume));
        assert!(
            !names(&folder).iter().any(|found| found.starts_with(name)),
            "{name}"
        );
        fs::write(&path, b"dear to someone").unwrap();
        create(Mode::Replace).append(&[]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"dear to someone", "{name}");
    }
}

#[test]
fn replacing_leaves_nothing_of_the_old_file() {
    let folder = TempDir::new().unwrap();
    for name in FORMATS {
        let path = folder.path().join(name);
        fs::write(&path, vec![b'x'; 100_000]).unwrap();
        fs::write(folder.path().join("labels.parquet.partial"), b"old").unwrap();
        complete(&path, Mode::Replace).unwrap();
        assert_eq!(
            read_predictions(&path, &taxonomy()).unwrap(),
            predictions(),
            "{name}"
        );
    }
}

#[test]
fn a_closed_pipe_is_told_from_a_failure() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let error = write_jsonl(writer, &predictions(), &taxonomy(), MODEL).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}
