//! Headless Chromium, driven over the WebDriver protocol (W3C) by chromedriver.

#![allow(dead_code)] // each test binary uses its part

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

pub struct Browser {
    driver: Child,
    client: reqwest::blocking::Client,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// A window of its own; `None` where there is no Chromium, of which the test's output tells.
    pub fn open(dark: bool) -> Option<Self> {
        let driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut driver) = driver else {
            // What tests print by macro is shown of failed tests only.
            let mut stderr = std::io::stderr();
            let why = "skipped: no chromedriver to open the page in (scripts/install-chromium)";
            writeln!(stderr, "{why}").unwrap();
            return None;
        };
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.ok()?;
            let port = line.split_once("started successfully on port ")?.1;
            Some(port.trim_end_matches('.').to_owned())
        });
        let port = port.expect("chromedriver names its port");
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Self {
            driver,
            client: reqwest::blocking::Client::new(),
            session: format!("http://127.0.0.1:{port}/session"),
            _profile: profile,
        };
        let mut arguments = vec![
            format!("--user-data-dir={}", browser._profile.path().display()),
            "--window-size=1280,900".into(),
        ];
        arguments.extend(
            [
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-dev-shm-usage",
            ]
            .map(String::from),
        );
        let capabilities = json!({
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        });
        let session = browser.post(
            "",
            json!({ "capabilities": { "alwaysMatch": capabilities } }),
        );
        browser.session += "/";
        browser.session += session["sessionId"].as_str().unwrap();
        let scheme = json!([{
            "name": "prefers-color-scheme",
            "value": if dark { "dark" } else { "light" },
        }]);
        browser.devtools("Emulation.setEmulatedMedia", json!({ "features": scheme }));
        Some(browser)
    }

    fn post(&self, command: &str, body: Value) -> Value {
        let request = self.client.post(format!("{}{command}", self.session));
        let answer: Value = request.json(&body).send().unwrap().json().unwrap();
        let value = answer["value"].clone();
        assert!(value["error"].is_null(), "{command}: {}", value["message"]);
        value
    }

    /// A command of Chromium's own protocol.
    pub fn devtools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({ "cmd": command, "params": parameters });
        self.post("/goog/cdp/execute", body)
    }

    /// Opens a page that is a file.
    pub fn goto(&self, page: &Path) {
        self.visit(&format!("file://{}", page.display()));
    }

    /// Opens a page, and returns once it is there: a new window's empty page may be still the one that
    /// scripts see when chromedriver says that the page is loaded.
    pub fn visit(&self, url: &str) {
        self.post("/url", json!({ "url": url }));
        self.wait(
            "return document.readyState === 'complete' && !['about:', 'data:'].includes(location.protocol)",
        );
    }

    /// Presses and releases keys one after the other, as characters or as WebDriver's code points of
    /// others (`\u{e007}` is Enter).
    pub fn press(&self, keys: &str) {
        let actions = keys.chars().flat_map(|key| {
            ["keyDown", "keyUp"].map(|what| json!({ "type": what, "value": key.to_string() }))
        });
        let actions: Vec<Value> = actions.collect();
        self.post(
            "/actions",
            json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] }),
        );
    }

    /// Waits until the script returns true.
    pub fn wait(&self, script: &str) {
        let begun = Instant::now();
        while self.run(script) != Value::Bool(true) {
            assert!(begun.elapsed() < Duration::from_secs(20), "never: {script}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What the script, the body of a function, returns.
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": script, "args": [] }))
    }

    /// Makes the page `width` CSS pixels wide, whatever a window's least width.
    pub fn resize(&self, width: u32) {
        let metrics =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// The messages in the console since the last call.
    pub fn console(&self) -> Vec<String> {
        let entries = self.post("/se/log", json!({ "type": "browser" }));
        let entries = entries.as_array().unwrap().iter();
        entries.map(|entry| entry["message"].to_string()).collect()
    }

    /// The addresses that were asked for since the last call, by pages other than the browser's own.
    pub fn requests(&self) -> Vec<String> {
        let entries = self.post("/se/log", json!({ "type": "performance" }));
        let events = entries.as_array().unwrap().iter().map(|entry| {
            let event: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
            event["message"].clone()
        });
        let requests = events.filter(|event| event["method"] == "Network.requestWillBeSent");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let urls = requests.filter_map(|event| {
            let by = text(&event["params"]["documentURL"]);
            (!by.starts_with("chrome")).then(|| text(&event["params"]["request"]["url"]))
        });
        urls.collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Best effort: a panic may be on its way already.
        let _ = self.client.delete(&self.session).send();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
