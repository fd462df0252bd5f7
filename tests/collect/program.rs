//! `faultlens collect` and `faultlens hydrate` as their users meet them.

use std::process::{Command, Output, Stdio};
use std::time::Instant;

use rand::RngExt;
use tempfile::tempdir;
use tracing_subscriber::util::SubscriberInitExt;

use super::*;
use crate::server::Faults;
use crate::tiny::faultlens;

/// `faultlens COMMAND`, asking the server with the token.
fn asking(server: &Server, command: &str) -> Command {
    let mut program = faultlens();
    program.args([command, "--api-url", &server.url]);
    program.env("GITHUB_TOKEN", TOKEN).env_remove("GH_TOKEN");
    program
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

/// `faultlens collect` of the one repository into a folder.
fn collecting(server: &Server, folder: &Path) -> Command {
    let mut program = asking(server, "collect");
    program.args(["acme/engine", "-o"]).arg(folder);
    program
}

#[test]
fn a_run_that_is_killed_twenty_times_ends_with_what_the_server_has() {
    let server = server(12_349, 1);
    let folder = tempdir().unwrap();
    let random = &mut random(2);
    server.lock().faults = Faults {
        trouble: 0.01,
        limits: 0.1,
        vague_limits: 0.0,
        slow: 0.9,
        change: 0.2,
    };
    let collect = || {
        let mut program = collecting(&server, folder.path());
        program.stdout(Stdio::null()).stderr(Stdio::null());
        program
    };
    for kill in 0..20 {
        let goal = server.requests() + random.random_range(2..6);
        let mut program = collect().spawn().unwrap();
        while server.requests() < goal {
            assert!(
                program.try_wait().unwrap().is_none(),
                "it ended before kill {kill}"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(random.random_range(0..12)));
        program.kill().unwrap();
        program.wait().unwrap();
    }
    assert!(
        !folder.path().join("acme__engine.jsonl").exists(),
        "it was never done"
    );
    assert!(collect().status().unwrap().success());
    server.lock().faults = Faults::default();
    assert!(collect().status().unwrap().success());

    let found = records(&folder.path().join("acme__engine.jsonl"));
    let expected = expected(&server);
    assert!(expected.len() >= 12_349);
    same(&found, &expected, "after the kills");
    // Restarts cost a request or two each, not a walk from the beginning.
    let pages = server.lock().github.repos[0].items.len() / 100;
    let requests = server.requests();
    assert!(
        requests < pages * 2,
        "{requests} requests for {pages} pages"
    );
}

#[test]
fn the_token_goes_to_the_server_and_appears_nowhere() {
    let server = server(250, 3);
    let elsewhere = self::server(10, 4);
    {
        let mut inner = server.lock();
        inner.github.redirects.insert(
            "/repos/acme/moved".into(),
            format!("{}/repos/acme/engine", elsewhere.url),
        );
        inner.faults = Faults {
            limits: 0.2,
            ..Faults::default()
        };
    }
    let folder = tempdir().unwrap();
    let labels = folder.path().join("labels.jsonl");
    fs::write(
        &labels,
        "{\"repo\":\"acme/engine\",\"number\":1}\n{\"repo\":\"acme/gone\",\"number\":1}\n",
    )
    .unwrap();
    let mut written = Vec::new();
    for arguments in [
        &["collect", "acme/engine", "acme/moved", "acme/none"][..],
        &["collect", "acme/engine", "--state", "open"],
        &["collect", "acme/engine", "--max-wait", "0"],
        &["collect", "not-a-repository"],
        &["hydrate", labels.to_str().unwrap()],
    ] {
        let output = asking(&server, arguments[0])
            .args(&arguments[1..])
            .arg("-o")
            .arg(folder.path().join(arguments[0]))
            .env("RUST_LOG", "trace")
            .env("RUST_BACKTRACE", "full")
            .output()
            .unwrap();
        written.extend([output.stdout, output.stderr]);
    }
    // The libraries say more to a program that listens.
    let log: Arc<Mutex<Vec<u8>>> = Arc::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(Log(log.clone()))
        .finish();
    {
        let _listening = subscriber.set_default();
        let settings = quick(&server);
        written.push(format!("{:?}", settings.token).into_bytes());
        collect_into(
            &folder.path().join("logged"),
            &Client::new(settings).unwrap(),
            &Default::default(),
        )
        .unwrap();
    }
    let log = log.lock().unwrap().clone();
    assert!(!log.is_empty(), "the libraries log something");
    written.push(log);
    for path in files(folder.path()) {
        written.push(fs::read(path).unwrap());
    }
    let secret = TOKEN.strip_prefix("ghp_").unwrap().as_bytes();
    assert!(written.iter().map(Vec::len).sum::<usize>() > 50_000);
    for bytes in &written {
        let shown = bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!shown, "{}", String::from_utf8_lossy(bytes));
    }
    assert!(
        server
            .lock()
            .seen
            .iter()
            .all(|seen| seen.authorization == Some(format!("Bearer {TOKEN}")))
    );
    assert_eq!(
        elsewhere.requests(),
        0,
        "a redirect to another host is not followed"
    );
}

/// Every file in a folder and its folders.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let paths = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[derive(Clone)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[test]
fn the_output_goes_straight_into_classify() {
    let server = server(60, 5);
    let folder = tempdir().unwrap();
    let mut collect = asking(&server, "collect")
        .args(["acme/engine", "-o", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let classify = |issues: &str| {
        let mut program = faultlens();
        program
            .args(["classify", "--quiet", issues, "--model"])
            .arg(tiny::model());
        program
    };
    let piped = classify("-")
        .stdin(collect.stdout.take().unwrap())
        .output()
        .unwrap();
    succeeded(&piped);
    assert!(collect.wait().unwrap().success());
    assert_eq!(String::from_utf8_lossy(&piped.stdout).lines().count(), 60);

    let output = collecting(&server, folder.path()).output().unwrap();
    succeeded(&output);
    let from_folder = classify(folder.path().to_str().unwrap()).output().unwrap();
    succeeded(&from_folder);
    assert_eq!(from_folder.stdout, piped.stdout);
}

#[test]
fn ctrl_c_ends_a_run_that_the_same_command_continues() {
    let server = server(2000, 6);
    let folder = tempdir().unwrap();
    server.lock().faults.slow = 1.0;
    let collect = || collecting(&server, folder.path());
    let mut program = collect();
    program.stderr(Stdio::piped());
    let program = program.spawn().unwrap();
    while server.requests() < 6 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let killed = Command::new("kill")
        .args(["-INT", &program.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let output = program.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(said(&output).contains("interrupted"), "{}", said(&output));
    let output = collect().output().unwrap();
    succeeded(&output);
    same(
        &records(&folder.path().join("acme__engine.jsonl")),
        &expected(&server),
        "the file",
    );
}

#[test]
fn a_run_without_a_token_works_and_says_that_it_is_slower() {
    let server = server(20, 7);
    let folder = tempdir().unwrap();
    let mut program = asking(&server, "collect");
    program
        .env_remove("GITHUB_TOKEN")
        .env("PATH", folder.path());
    let output = program
        .arg("acme/engine")
        .arg("-o")
        .arg(folder.path())
        .output()
        .unwrap();
    succeeded(&output);
    assert!(said(&output).contains("no token"), "{}", said(&output));
    assert!(
        server
            .lock()
            .seen
            .iter()
            .all(|seen| seen.authorization.is_none())
    );
}

#[cfg(unix)]
#[test]
fn the_token_comes_from_either_variable_or_from_githubs_own_client() {
    use std::os::unix::fs::PermissionsExt;

    let server = server(5, 8);
    let folder = tempdir().unwrap();
    let gh = folder.path().join("gh");
    // It answers only what it is to be asked.
    let script = "#!/bin/sh\n[ \"$*\" = 'auth token --hostname 127.0.0.1' ] && echo of-gh\n";
    fs::write(&gh, script).unwrap();
    fs::set_permissions(&gh, fs::Permissions::from_mode(0o755)).unwrap();
    let path =
        std::env::join_paths([folder.path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    for (variables, expected) in [
        (
            &[("GITHUB_TOKEN", "first"), ("GH_TOKEN", "second")][..],
            "first",
        ),
        (&[("GITHUB_TOKEN", ""), ("GH_TOKEN", "second")], "second"),
        (&[], "of-gh"),
    ] {
        let mut program = asking(&server, "collect");
        program
            .env_remove("GITHUB_TOKEN")
            .env("PATH", &path)
            .envs(variables.iter().copied());
        let output = program.args(["acme/engine", "-o", "-"]).output().unwrap();
        succeeded(&output);
        let inner = server.lock();
        let seen = inner.seen.last().unwrap();
        assert_eq!(seen.authorization, Some(format!("Bearer {expected}")));
    }
}

#[test]
fn two_programs_on_one_folder_refuse_each_other() {
    let server = server(5, 9);
    let folder = tempdir().unwrap();
    let _held = Folder::open(folder.path()).unwrap();
    let output = collecting(&server, folder.path()).output().unwrap();
    assert!(!output.status.success());
    assert!(
        said(&output).contains("in use by another run"),
        "{}",
        said(&output)
    );
    assert_eq!(server.requests(), 0);
}

#[test]
fn a_repository_that_fails_does_not_keep_others_from_being_collected() {
    let server = server(5, 10);
    let folder = tempdir().unwrap();
    let output = asking(&server, "collect")
        .args(["acme/none", "acme/engine", "-o"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = said(&output);
    assert!(
        said.contains("acme/none: ") && said.contains("1 of 2"),
        "{said}"
    );
    assert_eq!(records(&folder.path().join("acme__engine.jsonl")).len(), 5);
}

#[test]
fn a_rest_longer_than_allowed_ends_the_run_at_once() {
    let server = server(5, 11);
    server.lock().github.retry_after = vec![100];
    let begun = Instant::now();
    let output = asking(&server, "collect")
        .args(["acme/engine", "-o", "-", "--max-wait", "1m30s"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(
        said(&output).contains("rest of 100 s") && said(&output).contains("90 s"),
        "{}",
        said(&output)
    );
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn annotations_get_their_texts() {
    let server = server(40, 12);
    let folder = tempdir().unwrap();
    let (labels, issues) = (
        folder.path().join("labels.jsonl"),
        folder.path().join("issues.jsonl"),
    );
    let line = |number: u64| {
        format!("{{\"repo\":\"acme/engine\",\"number\":{number},\"kind\":\"bug\"}}\n")
    };
    fs::write(&labels, [3, 1, 7, 9_999].map(line).concat()).unwrap();
    let hydrate = || {
        asking(&server, "hydrate")
            .arg(&labels)
            .arg("-o")
            .arg(&issues)
            .output()
            .unwrap()
    };
    let output = hydrate();
    succeeded(&output);
    assert_eq!(numbers(&records(&issues)), [3, 1]);
    let report = said(&output);
    assert!(
        report.contains("2 issues fetched, 1 not found, 1 pull requests"),
        "{report}"
    );
    assert!(report.contains("acme/engine#7: a pull request"), "{report}");
    let output = hydrate();
    succeeded(&output);
    assert!(
        said(&output).contains("2 already there"),
        "{}",
        said(&output)
    );
    assert_eq!(numbers(&records(&issues)), [3, 1]);
    let known = faultlens()
        .arg("text")
        .arg(&issues)
        .args(["--number", "3"])
        .output()
        .unwrap();
    succeeded(&known);
}
