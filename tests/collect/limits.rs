//! Rests: as long as GitHub asks for, and no longer than the user allows.

use std::time::Instant;

use faultlens::collect::ClientError;
use tempfile::tempdir;

use super::*;
use crate::github::Limit;

/// Rests as they begin, with their reasons.
type Rests = Arc<Mutex<Vec<(Duration, String)>>>;

fn rests(settings: ClientSettings) -> (ClientSettings, Rests) {
    let rests = Rests::default();
    let heard = rests.clone();
    let watch = move |event| {
        if let Event::Rest {
            left,
            whole,
            reason,
        } = event
            && left == whole
        {
            heard.lock().unwrap().push((whole, reason));
        }
    };
    (
        ClientSettings {
            watch: Arc::new(watch),
            ..settings
        },
        rests,
    )
}

fn collect_with(folder: &Path, settings: ClientSettings) -> Result<Collected, CollectError> {
    collect_into(folder, &Client::new(settings).unwrap(), &Default::default())
}

#[test]
fn when_no_request_is_left_nothing_is_sent_before_the_limit_is_renewed() {
    let server = server(100, 1);
    let folder = tempdir().unwrap();
    {
        let github = &mut server.lock().github;
        github.page = 10;
        github.limit = Some(Limit {
            remaining: 4,
            renewal: 1800,
        });
    }
    let (settings, _) = rests(quick(&server));
    let error = collect_with(folder.path(), settings).unwrap_err();
    assert!(
        matches!(error, CollectError::Client(ClientError::TooLong { wait, .. }) if wait.as_secs().abs_diff(1800) < 5),
        "{error}"
    );
    assert!(
        error.to_string().contains("--max-wait allows 10 s"),
        "{error}"
    );
    let inner = server.lock();
    // The search has a limit of its own.
    assert_eq!(inner.seen.len(), 5);
    assert!(
        inner.seen.iter().all(|seen| seen.status == 200),
        "nothing was sent in vain"
    );
}

#[test]
fn the_primary_limit_is_rested_for_until_its_renewal_by_the_servers_clock() {
    let server = server(60, 2);
    let folder = tempdir().unwrap();
    {
        let github = &mut server.lock().github;
        github.page = 20;
        github.limit = Some(Limit {
            remaining: 2,
            renewal: 1,
        });
    }
    let (settings, rests) = rests(quick(&server));
    let begun = Instant::now();
    collect_with(folder.path(), settings).unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let rests = rests.lock().unwrap();
    assert!(!rests.is_empty());
    assert!(
        rests.iter().all(|(_, reason)| reason == "the rate limit"),
        "{rests:?}"
    );
    assert_eq!(
        records(&folder.path().join("acme__engine.jsonl")),
        expected(&server)
    );
}

#[test]
fn retry_after_is_obeyed() {
    let server = server(10, 3);
    let folder = tempdir().unwrap();
    server.lock().github.retry_after = vec![1];
    let (settings, rests) = rests(quick(&server));
    let begun = Instant::now();
    collect_with(folder.path(), settings).unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(
        *rests.lock().unwrap(),
        [(Duration::from_secs(1), "the secondary rate limit".into())]
    );
}

#[test]
fn a_server_that_stays_in_trouble_ends_the_run_with_what_to_do() {
    let server = server(10, 4);
    let folder = tempdir().unwrap();
    server.lock().faults.trouble = 1.0;
    let mut settings = quick(&server);
    settings.backoff.retries = 3;
    let (settings, rests) = rests(settings);
    let error = collect_with(folder.path(), settings).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("acme/engine") || message.contains(&server.url),
        "{message}"
    );
    assert_eq!(server.requests(), 4);
    assert_eq!(rests.lock().unwrap().len(), 3);
}

#[test]
fn a_refusal_is_not_asked_again() {
    let server = server(10, 5);
    let folder = tempdir().unwrap();
    let open = Folder::open(folder.path()).unwrap();
    let error = run(collect(
        &client(&server),
        &open,
        "acme/nothing",
        &Default::default(),
    ))
    .unwrap_err();
    assert!(error.to_string().contains("check the name"), "{error}");
    assert_eq!(server.requests(), 1);
    let error = run(collect(
        &client(&server),
        &open,
        "../engine",
        &Default::default(),
    ))
    .unwrap_err();
    assert!(matches!(error, CollectError::Repo(_)), "{error}");
    assert_eq!(server.requests(), 1);
}

#[test]
fn a_raised_flag_ends_a_rest_at_once() {
    let server = server(10, 6);
    let folder = tempdir().unwrap();
    server.lock().github.retry_after = vec![9];
    let settings = quick(&server);
    let stop: Arc<AtomicBool> = settings.stop.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        stop.store(true, Ordering::Relaxed);
    });
    let begun = Instant::now();
    let error = collect_with(folder.path(), settings).unwrap_err();
    assert!(error.is_stop(), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3));
}
