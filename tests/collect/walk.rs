//! What a collection is, without misfortunes.

use faultlens::collect::{Comments, Filter, State};
use faultlens::issue::read::{Corpus, ReadOptions};
use tempfile::tempdir;

use super::*;
use crate::github::START;

#[test]
fn a_run_when_nothing_changed_makes_one_request_and_touches_no_file() {
    // The last two end with more changes within a second than fit a page.
    for (seed, burst) in [(1, 0), (2, 40), (3, 250)] {
        let server = server(120, seed);
        let folder = tempdir().unwrap();
        {
            let mut inner = server.lock();
            inner.github.page = 25;
            for item in inner.github.repos[0].items.values_mut().rev().take(burst) {
                item.updated = START;
            }
        }
        let first = collect_into(folder.path(), &client(&server), &Default::default()).unwrap();
        assert_eq!((first.new, first.issues), (120, 120));
        let file = folder.path().join("acme__engine.jsonl");
        same(&records(&file), &expected(&server), "the file");

        for _ in 0..2 {
            let (before, written) = (
                server.requests(),
                file.metadata().unwrap().modified().unwrap(),
            );
            let again = collect_into(folder.path(), &client(&server), &Default::default()).unwrap();
            assert_eq!((again.issues, again.new, again.changed), (120, 0, 0));
            assert_eq!(server.requests() - before, 1);
            assert_eq!(server.lock().seen.last().unwrap().status, 304);
            assert_eq!(file.metadata().unwrap().modified().unwrap(), written);
        }
    }
}

#[test]
fn a_later_run_fetches_what_changed_and_no_more() {
    let server = server(300, 4);
    let folder = tempdir().unwrap();
    collect_into(folder.path(), &client(&server), &Default::default()).unwrap();
    {
        let github = &mut server.lock().github;
        github.now += 100;
        let now = github.now;
        let item = github.repos[0].items.get_mut(&5).unwrap();
        item.body = Some("It was the driver.".into());
        item.updated = now;
    }
    let before = server.requests();
    let again = collect_into(folder.path(), &client(&server), &Default::default()).unwrap();
    assert_eq!((again.issues, again.new, again.changed), (300, 0, 1));
    assert_eq!(server.requests() - before, 1);
    same(
        &records(&folder.path().join("acme__engine.jsonl")),
        &expected(&server),
        "the file",
    );
}

#[test]
fn a_second_that_is_not_over_yet_is_asked_for_again() {
    let server = server(60, 14);
    let folder = tempdir().unwrap();
    {
        let github = &mut server.lock().github;
        (github.page, github.now) = (25, START);
        for item in github.repos[0].items.values_mut() {
            item.updated = START;
        }
    }
    collect_into(folder.path(), &client(&server), &Default::default()).unwrap();
    for number in [3, 40] {
        let github = &mut server.lock().github;
        github.repos[0].items.get_mut(&number).unwrap().title = "Another title".into();
    }
    let again = collect_into(folder.path(), &client(&server), &Default::default()).unwrap();
    assert_eq!(again.changed, 2);
}

#[test]
fn issues_that_cease_to_pass_the_filter_leave_and_others_come() {
    let server = server(60, 5);
    let folder = tempdir().unwrap();
    let settings = CollectSettings {
        filter: Filter {
            state: State::Open,
            ..Filter::default()
        },
        ..CollectSettings::default()
    };
    let first = collect_into(folder.path(), &client(&server), &settings).unwrap();
    let open = server.lock().github.repos[0]
        .issues()
        .filter(|item| item.open)
        .count() as u64;
    assert_eq!(first.issues, open);
    let (mut closed, mut opened) = (0, 0);
    {
        let github = &mut server.lock().github;
        github.now += 100;
        let now = github.now;
        for item in github.repos[0]
            .items
            .values_mut()
            .filter(|item| !item.is_pull_request)
            .take(20)
        {
            *(if item.open { &mut closed } else { &mut opened }) += 1;
            item.open = !item.open;
            item.updated = now;
        }
    }
    let again = collect_into(folder.path(), &client(&server), &settings).unwrap();
    assert_eq!(
        (again.gone, again.new, again.issues),
        (closed, opened, open + opened - closed)
    );
    let found = records(&folder.path().join("acme__engine.jsonl"));
    assert!(found.iter().all(|record| record["state"] == "open"));
}

#[test]
fn a_limit_ends_a_run_and_the_next_goes_on() {
    let server = server(50, 6);
    let folder = tempdir().unwrap();
    let settings = CollectSettings {
        limit: Some(20),
        ..CollectSettings::default()
    };
    for (issues, limited) in [(20, true), (40, true), (50, false), (50, false)] {
        let collected = collect_into(folder.path(), &client(&server), &settings).unwrap();
        assert_eq!((collected.issues, collected.limited), (issues, limited));
        let found = records(&folder.path().join("acme__engine.jsonl"));
        assert_eq!(found.len() as u64, issues);
    }
    same(
        &records(&folder.path().join("acme__engine.jsonl")),
        &expected(&server),
        "the file",
    );
}

#[test]
fn comments_are_kept_and_the_records_still_read_as_issues() {
    let server = server(30, 7);
    for comments in [Comments::First(1), Comments::All] {
        let folder = tempdir().unwrap();
        let settings = CollectSettings {
            comments: Some(comments),
            ..CollectSettings::default()
        };
        collect_into(folder.path(), &client(&server), &settings).unwrap();
        let file = folder.path().join("acme__engine.jsonl");
        let inner = server.lock();
        for (record, item) in records(&file).iter().zip(inner.github.repos[0].issues()) {
            let count = if comments == Comments::All {
                item.comments.len()
            } else {
                1
            };
            assert_eq!(
                *record,
                item.kept_with_comments("acme/engine", "acme/engine", &inner.github.url, count)
            );
        }
        let corpus = Corpus::open(
            &[folder.path().to_str().unwrap().into()],
            &ReadOptions::default(),
        )
        .unwrap();
        let issues: Vec<_> = corpus.issues().map(Result::unwrap).collect();
        assert_eq!((issues.len(), corpus.summary().broken), (30, 0));
        assert_eq!(issues[0].id.repo, "acme/engine");
    }
}

#[test]
fn a_renamed_repository_is_followed_and_its_issues_keep_their_name() {
    let server = server(40, 8);
    let folder = tempdir().unwrap();
    server.lock().github.rename(0, "acme/motor");
    let collected = collect_into(folder.path(), &client(&server), &Default::default()).unwrap();
    assert_eq!(collected.renamed.as_deref(), Some("acme/motor"));
    same(
        &records(&folder.path().join("acme__engine.jsonl")),
        &expected(&server),
        "the file",
    );
    let before = server.requests();
    collect_into(folder.path(), &client(&server), &Default::default()).unwrap();
    assert_eq!(server.requests() - before, 1, "the new name is remembered");
}

#[test]
fn upper_and_lower_case_make_no_second_collection() {
    let server = server(10, 9);
    let folder = tempdir().unwrap();
    let open = Folder::open(folder.path()).unwrap();
    let client = client(&server);
    run(collect(&client, &open, "ACME/Engine", &Default::default())).unwrap();
    let again = run(collect(&client, &open, "acme/engine", &Default::default())).unwrap();
    assert_eq!((again.new, again.issues), (0, 10));
    same(
        &records(&folder.path().join("acme__engine.jsonl")),
        &expected(&server),
        "the file",
    );
}

#[test]
fn other_options_on_the_same_file_are_refused() {
    let server = server(10, 10);
    let folder = tempdir().unwrap();
    collect_into(folder.path(), &client(&server), &Default::default()).unwrap();
    let settings = CollectSettings {
        comments: Some(Comments::All),
        ..CollectSettings::default()
    };
    let error = collect_into(folder.path(), &client(&server), &settings).unwrap_err();
    assert!(error.to_string().contains("--comments all"), "{error}");
}

#[test]
fn a_file_that_was_changed_is_not_built_upon_and_one_that_was_removed_is_collected_anew() {
    let server = server(10, 11);
    let folder = tempdir().unwrap();
    let file = folder.path().join("acme__engine.jsonl");
    collect_into(folder.path(), &client(&server), &Default::default()).unwrap();
    fs::write(
        &file,
        fs::read_to_string(&file).unwrap().lines().next().unwrap(),
    )
    .unwrap();
    let error = collect_into(folder.path(), &client(&server), &Default::default()).unwrap_err();
    assert!(error.to_string().contains("put it back"), "{error}");
    fs::remove_file(&file).unwrap();
    let anew = collect_into(folder.path(), &client(&server), &Default::default()).unwrap();
    assert_eq!(anew.new, 10);
    same(&records(&file), &expected(&server), "the file");
}

#[test]
fn the_total_is_told_from_the_beginning() {
    let server = server(250, 12);
    let folder = tempdir().unwrap();
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let heard = events.clone();
    let settings = ClientSettings {
        watch: Arc::new(move |event| heard.lock().unwrap().push(event)),
        ..quick(&server)
    };
    collect_into(
        folder.path(),
        &Client::new(settings).unwrap(),
        &Default::default(),
    )
    .unwrap();
    let events = events.lock().unwrap();
    assert!(events.len() > 2);
    assert!(events.iter().all(|event| matches!(
        event,
        Event::Issues {
            total: Some(250),
            ..
        }
    )));
    assert!(matches!(
        events.last(),
        Some(Event::Issues { done: 250, .. })
    ));
}

#[test]
fn two_runs_on_one_folder_refuse_each_other() {
    let folder = tempdir().unwrap();
    let first = Folder::open(folder.path()).unwrap();
    let error = Folder::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    drop(first);
    Folder::open(folder.path()).unwrap();
}

#[test]
fn an_empty_repository_leaves_no_file() {
    let server = server(0, 13);
    let folder = tempdir().unwrap();
    for _ in 0..2 {
        let collected = collect_into(folder.path(), &client(&server), &Default::default()).unwrap();
        assert_eq!((collected.issues, collected.file), (0, None));
    }
}
